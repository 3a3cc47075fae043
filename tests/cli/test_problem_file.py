"""A file of the user's that cannot give a problem: a library is missing, or a decorated kernel is named."""

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


def test_a_decorated_kernel_in_the_place_of_a_problem_leads_to_its_runs(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    file = tmp_path / "kernels.py"
    file.write_text(
        "import triton\n"
        "import triton.language as tl\n"
        "import autotune\n\n\n"
        '@autotune.triton(configs=[triton.Config({"B": 64})], key=["n"])\n'
        "@triton.jit\n"
        "def saxpy(x, n, B: tl.constexpr):\n"
        "    at = tl.program_id(0) * B + tl.arange(0, B)\n"
        "    tl.store(x + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)\n"
    )
    with pytest.raises(PlanError, match="cache list --kernel saxpy` lists its runs"):
        load_problem(f"{file}:saxpy")
