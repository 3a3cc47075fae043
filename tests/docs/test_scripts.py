"""Names that the scripts and examples of the documentation import exist: many scripts need hours or a GPU to run."""

import ast
import importlib
from pathlib import Path

import pytest

from tests.support import DOCS

SCRIPTS = sorted([*(DOCS / "benchmarks").glob("*.py"), *(DOCS / "examples").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_imported_name_exists(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("autotune"):
            continue
        if ".helion" in str(node.module):
            pytest.importorskip("helion")
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            if not hasattr(module, alias.name):
                importlib.import_module(f"{node.module}.{alias.name}")
