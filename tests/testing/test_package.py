"""What `autotune.testing` exports and needs, and that the library never imports it."""

import subprocess
import sys

import pytest

import autotune.testing


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_every_name_of_the_list_is_there() -> None:
    for name in autotune.testing.__all__:
        assert getattr(autotune.testing, name) is not None


@pytest.mark.parametrize("missing", ["hypothesis", "pytest"])
def test_what_is_missing_is_named_with_the_extra(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "try:\n    import autotune.testing\nexcept ImportError as error:\n    print(error)"
    )
    assert run(code) == f"autotune.testing needs {missing}; pip install 'autotune-kernels[testing]'"


def test_the_library_imports_neither_it_nor_what_it_needs() -> None:
    code = (
        "import sys, autotune; [getattr(autotune, name) for name in dir(autotune)]; import autotune.cli\n"
        "print([name for name in ('autotune.testing', 'hypothesis', 'pytest') if name in sys.modules])"
    )
    assert run(code) == "[]"
