"""The work of a worker process: it builds a config's program in a folder of its own, runs it, and reads its times."""

import os
import select
import shutil
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from msgspec.structs import replace

from autotune.backends.command.output import NoTime, TimeSource, find_difference
from autotune.backends.command.template import FOLDER, PROGRAM, Command, Format, fill, fill_word, write_value
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.formatting import LONGEST_MESSAGE
from autotune.core.outcomes import Failed, FailureKind, Outcome, Timed, timed_or_failed
from autotune.shell.evaluators.bench import apply_checker
from autotune.shell.processes.os_process import describe_exit

_KEPT = 1 << 24
"""Bytes of each stream that are kept, the last ones: a program that floods them must not fill the memory."""

_LOOK_MS = 5.0
"""How often to look whether a program has ended, where the system offers nothing to wait for."""


@dataclass(frozen=True, kw_only=True)
class CommandWork:
    """What `CommandEvaluator` tells its workers; the fields are its own. expected: the text of its reference."""

    build: Command | None
    run: Command
    formats: Mapping[str, Format]
    time: TimeSource
    cwd: str
    env: Mapping[str, str]
    exit_codes: tuple[int, ...]
    expected: str | None
    checker: Any
    rtol: float
    atol: float
    warmups: int
    repeats: int


class BuiltProgram:
    """A program in its folder, and the command that runs it; the folder goes with it."""

    def __init__(self, folder: Path, command: list[str] | str, env: dict[str, str]) -> None:
        self.folder = folder
        self.command = command
        self.env = env
        self.compile_s = 0.0
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


class CommandEnd(NamedTuple):
    """How a command ended. status: as of subprocess. seconds: from its start to its exit."""

    status: int
    out: str
    err: str
    seconds: float


class CommandBench:
    """Builds and times programs; scratch: the folder in which each gets its own."""

    def __init__(self, work: CommandWork, scratch: str) -> None:
        self._work = work
        self._scratch = Path(scratch)
        self._compared = "by the checker" if work.checker else "the output, a text" if work.expected is not None else ""

    def build(self, config: Config) -> BuiltProgram | Failed:
        """The program of a config; a command that fails is an outcome that ends with the compiler's last lines."""
        work, folder = self._work, self._scratch / config.digest
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            values = {name: write_value(name, value, work.formats.get(name)) for name, value in config.items()}
            values |= {FOLDER: (str(folder),), PROGRAM: (str(folder / PROGRAM),)}
            env = {name: fill_word(text, values, name) for name, text in work.env.items()}
            env = {**os.environ, "TMPDIR": str(folder), "AUTOTUNE_CONFIG": config.to_json(), **env}
            program = BuiltProgram(folder, fill(work.run, values, "run"), env)
            if work.build is None:
                return program
            ended = run_command(fill(work.build, values, "build"), work.cwd, env)
        except EvaluatorError as error:
            return Failed("compile_error", str(error))
        except (OSError, ValueError) as error:
            return Failed("compile_error", f"the build cannot start: {error}")
        program.compile_s = ended.seconds
        if ended.status != 0:
            return _failed("compile_error", ended, f"the build {describe_exit(ended.status)}", compile_s=ended.seconds)
        return program

    def run(self, program: BuiltProgram, cutoff_ms: float | None, budget_s: float) -> Outcome:
        """The outcome of the warm-ups and the timed runs, each of them checked.

        cutoff_ms: a run that takes longer than this is the last one. budget_s: seconds after which no run begins; a
        program too slow for a timed run has the time of its warm-up.
        """
        start, times, last, cut = perf_counter(), list[float](), 0.0, False
        for number in range(self._work.warmups + self._work.repeats):
            spent = perf_counter() - start
            if times and spent + last > budget_s:
                break
            if number == self._work.warmups:
                times = []
            found = self._run_once(program)
            if isinstance(found, Failed):
                return replace(found, compile_s=program.compile_s, run_s=perf_counter() - start)
            times += found
            last = perf_counter() - start - spent
            if number >= self._work.warmups and cutoff_ms is not None and min(found) > cutoff_ms:
                cut = number == self._work.warmups
                break
        outcome = timed_or_failed(times, program.compile_s, perf_counter() - start, cut=cut)
        if isinstance(outcome, Timed) and self._compared:
            return replace(outcome, details={"checked": self._compared})
        return outcome

    def prepare(self, program: BuiltProgram) -> Failed | None:
        """One run that is not timed, to fill the caches."""
        found = self._run_once(program) if self._work.warmups else None
        return found if isinstance(found, Failed) else None

    def sample(self, program: BuiltProgram) -> float | Failed:
        """The time of one run in milliseconds, the median where it gives several."""
        found = self._run_once(program)
        return found if isinstance(found, Failed) else median(found)

    def verify(self, program: BuiltProgram) -> None:
        """Nothing: every run is checked."""

    def _run_once(self, program: BuiltProgram) -> list[float] | Failed:
        """The times of one run in milliseconds, or its failure."""
        work = self._work
        try:
            ended = run_command(program.command, work.cwd, program.env)
        except (OSError, ValueError) as error:
            return Failed("run_error", f"the program cannot start: {error}")
        if ended.status not in work.exit_codes:
            kind: FailureKind = "crash" if ended.status < 0 else "run_error"
            return _failed(kind, ended, f"the program {describe_exit(ended.status)}")
        if (wrong := self._find_fault(ended.out)) is not None:
            return Failed("wrong_answer", wrong[:LONGEST_MESSAGE])
        if isinstance(work.time, str):
            return [ended.seconds * 1e3]
        try:
            times = work.time.times_ms(ended.out, ended.err)
        except NoTime as error:
            return _failed("run_error", ended, str(error))
        wrong_times = [one for one in times if not 0 < one < float("inf")]
        return _failed("invalid_time", ended, f"the program told {wrong_times[0]!r} ms") if wrong_times else times

    def _find_fault(self, out: str) -> str | None:
        work = self._work
        if work.checker is not None:
            return apply_checker(work.checker, out, work.expected)
        if work.expected is None:
            return None
        if not isinstance(work.time, str):
            out, expected = work.time.without_times(out), work.time.without_times(work.expected)
        else:
            expected = work.expected
        return find_difference(out, expected, work.rtol, work.atol)


def _failed(kind: FailureKind, ended: CommandEnd, why: str, compile_s: float = 0.0) -> Failed:
    """A failure with the last lines that the command has printed, on stderr if it has used it."""
    text = (ended.err.strip() or ended.out.strip())[-4 * LONGEST_MESSAGE :]
    kept, lines = "", text.splitlines()
    while lines and len(kept) + len(lines[-1]) < LONGEST_MESSAGE:
        kept = f"{lines.pop()}\n{kept}"
    kept = kept.strip() or text[-LONGEST_MESSAGE:]
    return Failed(kind, f"{why}; it printed last:\n{kept}" if kept else why, compile_s)


def run_command(command: Sequence[str] | str, cwd: str, env: Mapping[str, str]) -> CommandEnd:
    """Run a command to its end, however long that takes: its worker is killed with it at its deadline.

    A text is read by a shell. What the program leaves running does not count, and is found when the worker is released.
    """
    start = perf_counter()
    process = subprocess.Popen(
        command, shell=isinstance(command, str), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=cwd, env=dict(env),
    )  # fmt: skip
    streams = [bytearray(), bytearray()]
    pipes = [process.stdout.fileno(), process.stderr.fileno()] if process.stdout and process.stderr else []
    seconds = _read_to_exit(process, pipes, streams) - start
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    out, err = (bytes(kept[-_KEPT:]).decode(errors="replace") for kept in streams)
    return CommandEnd(process.returncode, out, err, seconds)


def _read_to_exit(process: "subprocess.Popen[bytes]", pipes: Sequence[int], streams: Sequence[bytearray]) -> float:
    """Read both pipes until the process has ended, and what is in them then; the `perf_counter` of the end."""
    poll, exits = select.poll(), -1
    with suppress(AttributeError, OSError):
        exits = os.pidfd_open(process.pid)
        poll.register(exits, select.POLLIN)
    try:
        for pipe in pipes:
            os.set_blocking(pipe, False)
            poll.register(pipe, select.POLLIN)
        while True:
            ready = dict(poll.poll(None if exits >= 0 else _LOOK_MS))
            over = exits in ready if exits >= 0 else process.poll() is not None
            ended = perf_counter()
            for pipe, kept in zip(pipes, streams, strict=True):
                if (over or pipe in ready) and not _drain(pipe, kept) and pipe in ready:
                    poll.unregister(pipe)
            if over:
                return ended
    finally:
        if exits >= 0:
            os.close(exits)


def _drain(pipe: int, kept: bytearray) -> bool:
    """Read what is in a pipe; whether more may come."""
    with suppress(BlockingIOError):
        while part := os.read(pipe, 1 << 16):
            kept += part
            if len(kept) > 2 * _KEPT:
                del kept[:-_KEPT]
        return False
    return True
