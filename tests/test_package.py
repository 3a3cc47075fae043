"""The package as a whole: what it exports, and what importing it drags in."""

import subprocess
import sys

import pytest

import autotune


def test_every_public_name_can_be_had() -> None:
    assert {"__version__", "Space", "tune", "triton"} <= set(dir(autotune))
    for name in dir(autotune):
        assert getattr(autotune, name) is not None
    assert set(autotune.__all__) == set(dir(autotune)) - {"triton"}, "a star import must leave Triton's name alone"


def test_importing_it_and_naming_everything_loads_nothing_heavy() -> None:
    heavy = ("torch", "triton", "sklearn", "matplotlib", "ray", "numba", "rich", "typer")
    code = (
        "import sys, autotune; [getattr(autotune, name) for name in dir(autotune)];"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tuna"):
        getattr(autotune, "tuna")  # noqa: B009
