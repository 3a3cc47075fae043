"""What pages and messages say about installing: the distribution's own name, and extras that exist."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from autotune._extras import DISTRIBUTION, EXTRA_OF
from tests.support import DOCS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
SOURCES = [
    path
    for folder in ("autotune", "docs", ".ci", ".github")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".toml", ".yml", ""} and path.is_file()
] + [ROOT / "README.md", ROOT / "pyproject.toml"]

STRANGER = re.compile(r"install (-\S+ )*['\"]?autotune(?![\w-])(?!\.)|['\"]autotune\[")
"""A command or a requirement that fetches the project which is called `autotune` on the package index."""


@pytest.mark.parametrize("fault", ["pip install autotune", "pip install -U 'autotune'", "'autotune[triton]'"])
def test_a_strangers_name_is_recognised(fault: str) -> None:
    assert STRANGER.search(fault)


def test_nothing_tells_a_reader_to_install_another_project() -> None:
    found = {str(path): found[0] for path in SOURCES if (found := STRANGER.search(path.read_text()))}
    assert found == {}


def test_every_extra_that_is_named_exists() -> None:
    for path in SOURCES:
        for name in re.findall(rf"{DISTRIBUTION}\[([\w,-]+)\]", path.read_text()):
            assert set(name.split(",")) <= EXTRAS, path
    for path in (path for path in SOURCES if path.suffix == ".py"):
        for name in re.findall(r"install_command\(['\"]([\w-]+)['\"]\)", path.read_text()):
            assert name in EXTRAS, path
    assert set(EXTRA_OF.values()) <= EXTRAS


NO_EXTRA = {"cloudpickle", "sklearn", "threadpoolctl", "msgspec", "numpy", "platformdirs", "rich", "typer", "pynvml"}
"""Dependencies of the library itself, and pynvml, without which only a clock goes unread."""


def test_every_module_that_is_imported_has_an_extra_or_is_a_dependency() -> None:
    """So that a lazy import which fails can be answered with a command."""
    unknown = set()
    for path in (ROOT / "autotune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            tops = {name.partition(".")[0] for name in names}
            unknown |= {(top, path.name) for top in tops - {"autotune"} - set(sys.stdlib_module_names) - NO_EXTRA}
    assert {one for one in unknown if one[0] not in EXTRA_OF} == set()


def test_the_page_on_installing_has_every_extra_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", (DOCS / "install.md").read_text(), flags=re.MULTILINE)
    assert {name.strip("`") for row in rows for name in row.split(", ")} == EXTRAS


def test_the_distribution_is_called_what_errors_call_it() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert Path(PROJECT["license-files"][0]).name == "LICENSE"
