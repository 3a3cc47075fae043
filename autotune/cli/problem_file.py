"""The `Problem` in a user's Python file, FILE[:NAME]: the file is executed, as `python FILE` would.

No other file is: a journal, a recording or other JSON in its place is recognised before anything runs.
"""

import os
import re
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from autotune._extras import missing_module_remedy
from autotune.cli.output import stdout_for_results
from autotune.core.errors import AutotuneError, PlanError
from autotune.core.search.plan import as_budget
from autotune.core.space import Space
from autotune.core.strategies.registry import STRATEGIES, register
from autotune.shell.files import read_regular, translate_os_error

if TYPE_CHECKING:
    from autotune.shell.tuning import Problem

DEFAULT_NAME = "problem"

_LONGEST_LINE = 100
"""Characters of a line of the user's file that a message shows."""

_JOURNAL = b'{"format":"autotune-journal"'
"""The beginning of every journal."""


def load_problem(target: str) -> "Problem":
    """The problem that FILE[:NAME] names; the file's output goes to stderr.

    Raises PlanError where there is no such file or value, or where the file cannot be executed.
    """
    path, name = split_target(target)
    with stdout_for_results():
        return _take_problem(_execute(path, _read_python(path)), name, path)


def load_space(target: str) -> Space:
    """The space that FILE[:NAME] names: a Space, or that of a Problem; without a name, `space` before `problem`.

    Errors as of `load_problem`.
    """
    path, name = split_target(target)
    with stdout_for_results():
        module = _execute(path, _read_python(path))
        value = vars(module).get("space" if name == DEFAULT_NAME else name)
        return value if isinstance(value, Space) else _take_problem(module, name, path).space


def load_strategy(text: str) -> str:
    """The name of the strategy that --strategy gives: a name as it is; of FILE.py:CLASS, the file is executed, and its
    class registered under its own name unless the file has registered it.

    Raises PlanError where there is no such file or class, StrategyError for a class that is no strategy.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py"):
        return text
    path = Path(file)
    with stdout_for_results():
        module = _execute(path, _read_python(path))
    kind = vars(module).get(name)
    if not isinstance(kind, type):
        others = [known for known, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise PlanError(f"{path} has no class {name!r}" + (f"; it has {', '.join(others)}" if others else ""))
    known = next((short for short, registered in STRATEGIES.items() if registered is kind), None)
    if known is None:
        register(name, kind)
    return known or name


def load_own_strategy(text: str) -> None:
    """Register the class that FILE.py:CLASS gives, where something else names the strategy: a journal or a study.

    Errors as of `load_strategy`; raises PlanError for a text without a file, too.
    """
    file, colon, _ = text.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise PlanError(f"--strategy {text}: the strategy is named already; this only brings a class, as FILE.py:CLASS")
    load_strategy(text)


def is_journal(path: Path) -> bool:
    """Whether a file is to be read as a journal, by its beginning or name. Raises PlanError where it cannot be read."""
    with translate_os_error(PlanError, f"{path} cannot be read", "check the path"):
        start = read_regular(path, 64)
    return start.startswith(_JOURNAL) or path.suffix == ".jsonl"


def check_journal(path: Path, usage: str) -> None:
    """Raises PlanError for a file that is no journal, before a problem's file is executed for its sake.

    usage: the order of the command's arguments, for the error.
    """
    if not is_journal(path):
        raise PlanError(f"{path} is no journal of autotune; the order is: autotune {usage}")


def _read_python(path: Path) -> bytes:
    """The source in a file; raises PlanError for a file that cannot be read, or is JSON, packed or binary."""
    if os.path.isdir(path):
        raise PlanError(f"{path} is a directory; name the Python file that holds the problem")
    with translate_os_error(PlanError, f"{path} cannot be read", "name the Python file that holds the problem"):
        source = read_regular(path)
    if source.startswith(_JOURNAL):
        kind = "a journal of a search"
    elif source.startswith(b"\x1f\x8b"):
        kind = "packed by gzip"
    elif _is_json(source):
        kind = "JSON"
    elif b"\0" in source:
        kind = "binary"
    else:
        return source
    raise PlanError(f"{path} is {kind}, and not executed; name the Python file that holds the problem in its place")


def _is_json(source: bytes) -> bool:
    """Whether a text is a JSON object or list, whole or up to the end of its first line."""
    text = source.removeprefix(b"\xef\xbb\xbf").strip()
    if not text.startswith((b"{", b"[")):
        return False
    for part in (text.partition(b"\n")[0], text):
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            msgspec.json.decode(part, type=msgspec.Raw)
            return True
    return text.startswith(b'{"')  # JSON that is cut off or damaged; a Python file does not begin with a dictionary


def split_target(target: str) -> tuple[Path, str]:
    """FILE[:NAME] as a path and a name; a file whose own name has a colon is found too."""
    file, colon, name = target.rpartition(":")
    if not colon or os.path.exists(target):
        return Path(target), DEFAULT_NAME
    if not name.isidentifier():
        raise PlanError(f"{target}: {name!r} cannot be the name of a value; write FILE or FILE:NAME")
    return Path(file), name


def _execute(path: Path, source: bytes) -> ModuleType:
    """The file as a module of a name that no import finds, so that its functions travel to workers with their code."""
    full = path.resolve()
    module = ModuleType("autotune_file_" + re.sub(r"\W", "_", path.stem))
    module.__file__ = str(full)
    sys.modules[module.__name__] = module
    if str(full.parent) not in sys.path:
        sys.path.insert(0, str(full.parent))
    try:
        exec(compile(source, str(full), "exec"), module.__dict__)
    except SyntaxError as error:
        where = path if error.filename == str(full) else error.filename
        raise PlanError(f"{where}, line {error.lineno}: {error.msg}{_quote(error.text)}; correct the file") from None
    except AutotuneError as error:
        raise PlanError(f"{path}, line {_line(error, full)}: {error}{_quote(_text(error, full))}") from None
    except SystemExit:
        raise PlanError(
            f"{path} ended the process; move all but the problem under `if __name__ == '__main__':`"
        ) from None
    except ModuleNotFoundError as error:
        remedy = missing_module_remedy(error.name or "") or f"install {error.name}, or correct the file"
        raise PlanError(f"{path}, line {_line(error, full)}: {error}{_quote(_text(error, full))}; {remedy}") from error
    except Exception as error:
        fault = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PlanError(
            f"{path}, line {_line(error, full)}: {fault}{_quote(_text(error, full))}; correct the file"
        ) from error
    return module


def _line(error: BaseException, path: Path) -> int | str:
    """The line of the user's file that was being executed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] or "?" if lines else "?"


def _text(error: BaseException, path: Path) -> str | None:
    """The text of that line."""
    texts = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return texts[-1] if texts else None


def _quote(line: str | None) -> str:
    """A line of the user's file for the middle of a message, cut where it is long."""
    text = (line or "").strip()
    return f", in `{text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + '…'}`" if text else ""


def _take_problem(module: ModuleType, name: str, path: Path) -> "Problem":
    from autotune.shell.tuning import Problem  # brings all evaluators with it; a recording needs none

    value = getattr(module, name, None)
    if isinstance(value, Problem):
        return _check(value, f"{path}: {name}")
    if hasattr(value, "prune_configs"):  # as Triton's class of decorated kernels, and ours, have it
        raise PlanError(
            f"{path}: {name} is a decorated kernel, which is tuned by its calls, and no Problem; `autotune cache list "
            f"--kernel {name}` lists its runs, and `autotune cache explain RUN --with NAME=VALUE` explains their keys"
        )
    if value is not None:
        raise PlanError(
            f"{path}: {name} is of type {type(value).__name__}, not Problem; write {name} = Problem(space, evaluator)"
        )
    others = [other for other, found in vars(module).items() if isinstance(found, Problem)]
    if others:
        raise PlanError(f"{path} has no {name!r}; it has {', '.join(others)}: name it as {path}:{others[0]}")
    raise PlanError(f"{path} has no {name!r}; write {name} = Problem(space, evaluator) in it")


def _check(problem: "Problem", place: str) -> "Problem":
    """The problem; raises PlanError where a part of it has another type than it must have."""
    if not isinstance(problem.space, Space):
        raise PlanError(f"{place} has a space of type {type(problem.space).__name__}; give it a Space")
    try:
        budget = None if problem.budget is None else as_budget(problem.budget)
    except PlanError as error:
        raise PlanError(f"{place}: {error}") from None
    problem = replace(problem, budget=budget)
    evaluator = problem.evaluator
    missing = [part for part in ("open", "describe", "exact", "recovers") if not hasattr(evaluator, part)]
    if isinstance(evaluator, type) or missing:
        kind = evaluator.__name__ if isinstance(evaluator, type) else type(evaluator).__name__
        fault = "is a class, not a value" if isinstance(evaluator, type) else f"has no {missing[0]!r}"
        raise PlanError(
            f"{place} has an evaluator, {kind}, that {fault}; give it CallableEvaluator(build), for example"
        )
    return problem
