"""A function that is called once a module has been imported."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autotune.backends.triton_decorator.import_hook import when_imported


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "awaited_module.py").write_text("value = 3\n\n\ndef function():\n    return value\n")
    monkeypatch.delitem(sys.modules, "awaited_module", raising=False)
    importlib.invalidate_caches()


def test_it_is_called_when_the_module_has_been_executed() -> None:
    seen: list[int] = []

    def imported(module: ModuleType) -> None:
        seen.append(module.value)

    hook = when_imported("awaited_module", imported)
    assert hook in sys.meta_path
    assert seen == []
    module = importlib.import_module("awaited_module")
    assert seen == [3]
    assert hook not in sys.meta_path
    assert inspect.getsource(module.function).startswith("def function"), "its loader is as without the hook"
    assert "exec_module" not in vars(module.__loader__)
    assert when_imported("awaited_module", imported) is None
    assert seen == [3, 3]


def test_it_can_be_removed_before() -> None:
    hook = when_imported("awaited_module", lambda module: pytest.fail("it was removed"))
    assert hook is not None
    hook.remove()
    importlib.import_module("awaited_module")


def test_a_module_that_is_not_there_is_not_there() -> None:
    hook = when_imported("awaited_module_that_is_not_there", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("awaited_module_that_is_not_there")
    assert hook not in sys.meta_path


def test_what_the_module_raises_is_raised(tmp_path: Path) -> None:
    (tmp_path / "awaited_module.py").write_text("raise ValueError('theirs')\n")
    when_imported("awaited_module", lambda module: pytest.fail("it was not imported"))
    with pytest.raises(ValueError, match="theirs"):
        importlib.import_module("awaited_module")
