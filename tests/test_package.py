"""The package as a whole: what it exports, and what importing it drags in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import autotune


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(autotune.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {(module, name) for module, names in autotune._HOMES.items() for name in names}


def test_every_public_name_can_be_had() -> None:
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
