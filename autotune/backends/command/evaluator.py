"""The evaluator of executables: the flags of a build, the arguments of a run, and the time of what they give."""

import os
import shlex
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from autotune.backends.command.output import JsonField, OutputPattern, TimeSource
from autotune.backends.command.template import (
    FOLDER,
    PROGRAM,
    Command,
    Format,
    as_command,
    fill,
    list_fields,
    words_of,
    write_value,
)
from autotune.core.arguments import short_repr
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Detail
from autotune.core.search.messages import Event
from autotune.shell.cache.identity import Identity, processor
from autotune.shell.cache.keys import Specialization, compute_digest
from autotune.shell.cache.sources import source_digest
from autotune.shell.evaluators import messages
from autotune.shell.evaluators.isolated import IsolatedSession, WorkerRules
from autotune.shell.evaluators.protocol import Evaluator, Session, clock_after
from autotune.shell.evaluators.settings import Ranges, check_functions, check_numbers, qualified_name
from autotune.shell.files import PathLike
from autotune.shell.processes.os_process import Process, boot, scratch_folder, unnamed_file
from autotune.shell.processes.pool import WorkerPool
from autotune.shell.settings import timeout_setting

if TYPE_CHECKING:
    from autotune.backends.command.bench import CommandWork
    from autotune.core.space import Space

_MOST_WORKERS = 4
"""Builds side by side by default: they are stopped while a program is timed, so more of them would wait more often."""

_RANGES: Ranges = {
    "repeats": (int, 1, 1e6),
    "warmups": (int, 0, 1e6),
    "workers": (int, 1, 4096),
    "build_timeout_s": (int | float, 1e-3, 1e7),
    "run_timeout_s": (int | float, 1e-3, 1e7),
    "rtol": (int | float, 0, 1e30),
    "atol": (int | float, 0, 1e30),
}


@dataclass(frozen=True, eq=False)
class CommandEvaluator(Evaluator):
    """Builds, runs and times a program with the flags of each config.

        CommandEvaluator(
            run=["{program}", "1000"],
            build=["g++", "{level}", "{unroll}", "sort.cpp", "-o", "{program}"],
            formats={"level": "-O{}", "unroll": "-funroll-loops"},
        )

    run, build: commands, as lists with one item for each argument. `{name}` stands for a parameter, `{folder}` for the
        folder of the config's build, which is removed after its timing, and `{program}` for a path in it. A word that
        is one field alone may become no argument, or several. Without `build`, `run` is all there is. No shell reads
        the commands, so a value is one argument whatever it holds. Every parameter must have a field.
    formats: how a parameter is written: a text with {} for the value ("-O{}"); a text without {}, which is given where
        the value is true ("-funroll-loops"); or for each value a text, a list of arguments, or None for no argument.
        Without one, true and false are 1 and 0, the items of a list have commas, and None is no argument.
    shell: the commands are lines for a shell; every value in them is quoted.
    time: "wall", from the start of the process to its exit (about a millisecond of it is the start itself), or
        OutputPattern or JsonField, for a time, or several samples, that the program prints.
    repeats, warmups: how many runs are timed, and how many come before them.
    exit_codes: of a run that went well. reference: the expected stdout, a text or a file (a Path), where the times are
        left out, spaces count once, and numbers with a point may be off by `atol + rtol * |expected|`.
        checker: `checker(stdout, reference)` returns True, or False or a message; it replaces the comparison.
    cwd: the folder in which commands run; None: the present one. env: variables, which may have fields, beside those of
        this process. A command also finds the config as JSON in AUTOTUNE_CONFIG, and TMPDIR is its `{folder}`.
    sources: files that the build or the run reads. Results are remembered for their content, and a resume warns where
        it has changed.
    workers: how many builds go on side by side, by default one for each of up to four cores. One program at a time is
        timed. overlap: do not stop the builds meanwhile, where the program does not run on these cores.
    build_timeout_s, run_timeout_s: seconds of a build, and of all runs of a config (each run by itself in a
        comparison); a command is then killed with all that it has started. A slow program gets fewer runs. The defaults
        are those of AUTOTUNE_COMPILE_TIMEOUT and AUTOTUNE_BENCHMARK_TIMEOUT, else 60.
    Raises EvaluatorError for settings that cannot work.
    """

    run: Sequence[str] | str
    build: Sequence[str] | str | None = None
    _: KW_ONLY
    formats: Mapping[str, Format] = field(default_factory=dict)
    shell: bool = False
    time: TimeSource = "wall"
    repeats: int = 3
    warmups: int = 1
    exit_codes: Sequence[int] = (0,)
    reference: str | Path | None = None
    checker: Callable[[str, str | None], bool | str] | None = None
    rtol: float = 1e-6
    atol: float = 0.0
    cwd: PathLike | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    sources: Sequence[PathLike] = ()
    workers: int | None = None
    overlap: bool = False
    build_timeout_s: float = field(default_factory=partial(timeout_setting, "compile_timeout", 60.0))
    run_timeout_s: float = field(default_factory=partial(timeout_setting, "benchmark_timeout", 60.0))

    def __post_init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = (1 if self.build is None else min(cores, _MOST_WORKERS)) if self.workers is None else self.workers
        object.__setattr__(self, "workers", workers)
        object.__setattr__(self, "run", as_command(self.run, "run", self.shell))
        if self.build is not None:
            object.__setattr__(self, "build", as_command(self.build, "build", self.shell))
        check_numbers(self, _RANGES)
        check_functions(self, ("checker",))
        if self.time != "wall" and not isinstance(self.time, OutputPattern | JsonField):
            raise EvaluatorError(f'time is {short_repr(self.time)}; give "wall", OutputPattern(…) or JsonField(…)')
        object.__setattr__(self, "exit_codes", _as_codes(self.exit_codes))
        if isinstance(self.sources, str | os.PathLike):
            raise EvaluatorError(f"sources is {short_repr(self.sources)}; give a list of files")
        for name, form in self.formats.items():
            if not isinstance(form, str | Mapping):
                raise EvaluatorError(
                    f"the format of {name!r} is {short_repr(form)}; give a text, or a text for each value"
                )
        if not all(isinstance(text, str) for item in self.env.items() for text in item):
            raise EvaluatorError("env holds something that is no text; give texts by name")

    @property
    def takes_one(self) -> bool:
        """True with one worker, which builds and times one config at a time."""
        return self.workers == 1

    def describe(self) -> dict[str, Detail]:
        """Kind and settings: commands as a shell would read them, files by the digest of their content."""
        described: dict[str, Detail] = {"kind": "command", "run": _shown(self.run)}
        if self.build is not None:
            described["build"] = _shown(self.build)
        for name in ("formats", "env"):
            if getattr(self, name):
                described[name] = _json(getattr(self, name))
        described["time"] = self.time if isinstance(self.time, str) else _json(self.time)
        if self.sources:
            described["sources"] = self._source_digest()
        if self.reference is not None:
            described["reference"] = compute_digest(self._expected())
        if self.checker is not None:
            described["checker"] = qualified_name(self.checker)
        described["exit_codes"] = _json(self.exit_codes)
        numbers = ("shell", "repeats", "warmups", "rtol", "atol", "overlap", "build_timeout_s", "run_timeout_s")
        return described | {name: getattr(self, name) for name in (*numbers, "workers")}

    def identity(self) -> Identity:
        """The program for the cache: its commands, the content of its sources, and how it is checked and timed."""
        commands = [_json(part) for part in (self.run, self.build, self.formats, self.env)]
        check = [_json(self.exit_codes), self._expected(), self.rtol, self.atol]
        checker = "" if self.checker is None else source_digest(self.checker)
        return Identity(
            kernel=Path(self.sources[0] if self.sources else words_of(self.run)[0]).name,
            source=compute_digest([*commands, self._source_digest()]),
            specialization=Specialization(),
            device=processor(),
            extra={"check": compute_digest([*check, checker]), "time": _json(self.time)},
        )

    def open(self, space: "Space", past: Sequence[Event] = ()) -> Session:
        """A session; raises EvaluatorError where the commands and the space do not fit together, or a program or a file
        is missing."""
        self._check_space(space)
        self._check_programs()
        rules = WorkerRules(self.workers or 1, self.overlap, self.build_timeout_s, self.run_timeout_s, apart=True)
        return IsolatedSession(_pool_of(self._work()), rules, clock_after(past))

    def _check_space(self, space: "Space") -> None:
        texts = {"run": words_of(self.run), "build": words_of(self.build or ()), "env": tuple(self.env.values())}
        used = {what: list_fields(words, what) for what, words in texts.items()}
        for name in (FOLDER, PROGRAM):
            if name in space.parameters:
                raise EvaluatorError(f"a parameter is called {name!r}, which is a field of every command; rename it")
        for what, names in used.items():
            for name in sorted(names - {FOLDER, PROGRAM, *space.names}):
                raise EvaluatorError(
                    f"{what} has the field {{{name}}}, and the space has {', '.join(space.names)}; write {{{{ and }}}} "
                    "for braces"
                )
        unused = [name for name in space.names if not any(name in names for names in used.values())]
        if unused:
            raise EvaluatorError(
                f"no command uses the parameter {unused[0]!r}, so it changes nothing; write {{{unused[0]}}} where it "
                "belongs"
            )
        unknown = next((name for name in self.formats if name not in space.parameters), None)
        if unknown is not None:
            raise EvaluatorError(f"formats has {unknown!r}; the parameters are {', '.join(space.names)}")
        if space.default is not None:  # the formats of the default are tried now, those of other values as they come
            values = {n: write_value(n, value, self.formats.get(n)) for n, value in space.default.items()}
            for what, words in (("run", self.run), ("build", self.build)):
                if words is not None:
                    fill(_command(words), {**values, FOLDER: (FOLDER,), PROGRAM: (PROGRAM,)}, what)

    def _check_programs(self) -> None:
        """A program that is missing would fail every config."""
        if not os.path.isdir(self._folder()):
            raise EvaluatorError(f"cwd is {str(self.cwd)!r}, and there is no such folder; make it, or name another")
        for what, command in (("run", self.run), ("build", self.build)):
            if command is None or self.shell or list_fields((program := words_of(_command(command))[0],), what):
                continue
            here = os.path.join(self._folder(), program) if os.sep in program else program
            if shutil.which(here, path=self.env.get("PATH")) is None:
                raise EvaluatorError(f"{what} names the program {program!r}, which is not there; install or build it")

    def _folder(self) -> str:
        return os.path.abspath(os.getcwd() if self.cwd is None else self.cwd)

    def _work(self) -> "CommandWork":
        from autotune.backends.command.bench import CommandWork

        return CommandWork(
            build=None if self.build is None else _command(self.build), run=_command(self.run), formats=self.formats,
            time=self.time, cwd=self._folder(), env=self.env, exit_codes=tuple(self.exit_codes),
            expected=self._expected(), checker=self.checker, rtol=self.rtol, atol=self.atol, warmups=self.warmups,
            repeats=self.repeats,
        )  # fmt: skip

    def _expected(self) -> str | None:
        if not isinstance(self.reference, os.PathLike):
            return self.reference
        return self._read(self.reference, "the reference").decode(errors="replace")

    def _source_digest(self) -> str:
        """32 hexadecimal digits of the content of the sources, whatever their place."""
        return compute_digest([compute_digest(self._read(path, "the source").hex()) for path in self.sources])

    def _read(self, path: PathLike, what: str) -> bytes:
        try:
            return Path(self._folder(), path).read_bytes()
        except OSError as error:
            raise EvaluatorError(f"{what} {str(path)!r} cannot be read ({error.strerror}); check the path") from None


def _as_codes(given: object) -> tuple[int, ...]:
    codes = tuple(given) if isinstance(given, Sequence) else ()
    if not codes or not all(isinstance(code, int) for code in codes):
        raise EvaluatorError(f"exit_codes is {short_repr(given)}; give the codes of a run that went well, such as (0,)")
    return codes


def _command(given: Sequence[str] | str) -> Command:
    return given if isinstance(given, str) else tuple(given)


def _shown(command: Sequence[str] | str) -> str:
    return command if isinstance(command, str) else shlex.join(command)


def _json(value: Any) -> str:
    """A setting as text. Keys of formats may be any value of a parameter, so pairs stand for a mapping."""
    if isinstance(value, Mapping):
        return msgspec.json.encode([[key, _json(one)] for key, one in value.items()]).decode()
    return msgspec.json.encode(value).decode()


class _ProcessWithFolder:
    """A worker whose folder goes with it, even where it is killed before its supervisor, which removes it otherwise,
    has begun."""

    def __init__(self, process: Process, folder: str) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def has_exited(self) -> bool:
        return self._process.has_exited()

    def kill(self) -> int | None:
        status = self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        return status


def _pool_of(work: "CommandWork") -> WorkerPool[messages.Reply]:
    """A pool whose workers have each a folder of their own, which their supervisors remove."""
    from autotune.backends.command.worker import pack

    payload = unnamed_file(pack(work))

    def start(sock: socket.socket, stderr: int) -> Process:
        scratch = scratch_folder()
        try:
            settings, files = {"scratch": scratch}, {"payload": payload.fileno()}
            return _ProcessWithFolder(boot("autotune.backends.command.worker", settings, sock, files, stderr), scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    return WorkerPool(start, messages.decode_reply, setting_up="its checker", files=(payload,))
