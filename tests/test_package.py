"""The package as a whole: what it exports, and what importing it drags in."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import autotune

SHORT_PATHS = (
    "autotune", "autotune.helion", "autotune.kernel_tuner", "autotune.optuna",
    "autotune.studies",
)  # fmt: skip


@pytest.mark.parametrize("path", SHORT_PATHS)
def test_every_public_name_is_there_and_the_same_object_as_at_home(path: str) -> None:
    """What type checkers read is what is imported."""
    pytest.importorskip({"kernel_tuner": "kernel_tuner", "optuna": "optuna"}.get(path.rpartition(".")[2], "numpy"))
    if path == "autotune.helion":
        pytest.importorskip("helion")
    module = importlib.import_module(path)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.asname is not None}
    assert seen
    for name, home in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(str(home)), name)
        assert name in dir(module)


def test_a_star_import_leaves_tritons_name_alone() -> None:
    names: dict[str, object] = {}
    exec("from autotune import *", names)
    assert names.keys() - {"__builtins__"} == set(dir(autotune)) - {"triton"}


@pytest.mark.parametrize(
    ("path", "name", "extra"),
    [("optuna", "suggest", "optuna"), ("kernel_tuner", "kernel_tuner_strategy", "kernel-tuner")],
)
def test_a_short_path_without_its_extra_says_what_to_install(path: str, name: str, extra: str) -> None:
    code = f"import sys; sys.modules['{path}'] = None; import autotune.{path} as short; short.{name}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stderr.splitlines()[-1].startswith(f"ImportError: autotune.{path} needs {path}")
    assert ran.stderr.splitlines()[-1].endswith(f"; pip install 'autotune-kernels[{extra}]'")


def test_importing_it_and_naming_everything_loads_nothing_heavy() -> None:
    heavy = ("torch", "triton", "sklearn", "matplotlib", "ray", "numba", "rich", "typer")
    code = (
        "import sys, autotune; [getattr(autotune, name) for name in dir(autotune)];"
        "import autotune.evaluators, autotune.kernel_tuner, autotune.optuna, autotune.strategies;"
        "import autotune.studies; [getattr(autotune.studies, name) for name in dir(autotune.studies)];"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tuna"):
        getattr(autotune, "tuna")  # noqa: B009


PACKAGE = Path(autotune.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_no_file_is_longer_than_a_reader_takes_in_at_once() -> None:
    assert {str(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 700} == {}


INSIDE = re.compile(r"\bautotune[./](core|shell|backends|interop)\b")
FOR_READERS_OF_THE_CODE = {"architecture.md", "contributing.md", "changelog.md", "design", "benchmarks"}


def test_pages_for_users_do_not_show_the_layout_inside() -> None:
    docs = PACKAGE.parent / "docs"
    for page in [PACKAGE.parent / "README.md", *sorted(docs.rglob("*.md")), *sorted((docs / "examples").glob("*.py"))]:
        if not FOR_READERS_OF_THE_CODE & {page.name, page.parent.name}:
            assert INSIDE.findall(page.read_text()) == [], page


def test_every_file_that_the_page_on_architecture_names_exists() -> None:
    """A path in backticks is below the package, or below a folder that the same paragraph or table names."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    known = {"/" + path.relative_to(PACKAGE).as_posix() for path in SOURCES}
    for named in set(re.findall(r"`([a-z_/]+\.py)`", page)):
        assert any(path.endswith("/" + named) for path in known) or (PACKAGE.parent / named).exists(), named
