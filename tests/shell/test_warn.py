"""Every warning points at the line of the user's program that called the library."""

import ast
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest

import autotune
from autotune import CallableEvaluator, Integer, Space, tune
from autotune.shell.warn import warn_user
from autotune.studies.recordings import load_recording

SOURCES = Path(autotune.__file__).parent


def test_no_module_warns_by_another_way():
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in sorted(SOURCES.rglob("*.py"))
        if path.name != "warn.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn")
        or (isinstance(node, ast.ImportFrom) and node.module == "warnings")
    ]
    assert not found, "use warn_user"


def test_it_points_at_the_caller():
    with pytest.warns(DeprecationWarning, match="directly") as caught:
        warn_user("directly", DeprecationWarning)
    assert caught[0].filename == __file__


def test_a_context_of_the_standard_library_is_passed_over():
    """As `ExitStack.enter_context` is, through which the library opens a session."""
    frames = {"warn_user": warn_user}
    code = compile("def entered(*_):\n    warn_user('in a context')\n", str(SOURCES / "somewhere.py"), "exec")
    exec(code, frames)

    class Context:
        __enter__ = frames["entered"]

        def __exit__(self, *_: object) -> None: ...

    with pytest.warns(UserWarning, match="in a context") as caught, ExitStack() as stack:
        stack.enter_context(Context())
    assert caught[0].filename == __file__


def test_deep_inside_of_the_library_it_points_here(tmp_path: Path):
    space, build = Space({"a": Integer(0, 1)}, default={"a": 0}), lambda config: lambda: None
    path = tmp_path / "search.jsonl"
    tune(space, CallableEvaluator(build, isolation="in_process"), budget=1, journal=path)
    with path.open("a") as file:
        file.write('{"torn')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        autotune.resume(path, CallableEvaluator(build, isolation="in_process"))
    assert len(caught) >= 1
    assert {one.filename for one in caught} == {__file__}


def test_a_recording_that_is_cut_off_points_here(tmp_path: Path):
    import gzip

    whole = gzip.compress((SOURCES / "data" / "attention.json.gz").read_bytes())
    path = tmp_path / "cut.json.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(autotune.AutotuneError):
            load_recording(path)
    assert {one.filename for one in caught} <= {__file__}
