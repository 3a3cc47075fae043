"""A file of the user's that needs a library which is not installed."""

import sys
from pathlib import Path

import pytest

from autotune.cli.problem_file import load_problem
from autotune.core.errors import PlanError


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("triton", "pip install 'autotune-kernels[triton]'"),
        ("nothing_of_that_name", "install nothing_of_that_name, or correct the file"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(
    module: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        """Finds no `module`, whether it is installed or not."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == module:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    file = tmp_path / "needy.py"
    file.write_text(f"import math\nimport {module}\n")
    with pytest.raises(PlanError) as raised:
        load_problem(str(file))
    assert str(raised.value) == f"{file}, line 2: No module named {module!r}, in `import {module}`; {remedy}"
