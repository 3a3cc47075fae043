"""`AskTell`: the search for a loop of your own. It asks for a config, measures it, and tells the time.

`core/search/dialogue.py` decides what is handed out next; this is the shell around it: a clock, a journal, a lock.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Literal, Self, overload

from msgspec.structs import replace

from autotune.core.arguments import argument_error, check_integer, check_items, plain, short_repr
from autotune.core.config import Config, Value
from autotune.core.errors import JournalError, PlanError
from autotune.core.formatting import LONGEST_MESSAGE, describe_error
from autotune.core.outcomes import FAILURE_KINDS, Detail, Failed, FailureKind, Outcome, Trial, timed_or_failed
from autotune.core.parameters import Parameter
from autotune.core.search.dialogue import SETTINGS, Dialogue, answer, begin_dialogue, follow, next_step
from autotune.core.search.messages import Dispatched, Event, Finished, Reported, Resumed, Wait
from autotune.core.search.plan import Budget, Plan
from autotune.core.search.result import MeasuredConfig, Result, result, result_digest
from autotune.core.search.state import Search
from autotune.core.space import Space, as_space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import name_of
from autotune.shell.evaluators.protocol import WallClock
from autotune.shell.files import PathLike, as_path
from autotune.shell.journal import ASK_TELL, Journal, JournalWriter, header_for, read_journal
from autotune.shell.options import resolve_options
from autotune.shell.plans import make_plan
from autotune.shell.settings import environment

_LOOK_S = 1.0
"""Seconds after which a thread that waits for the others' times looks whether they still live."""

_WAIT_S = 60.0
"""Seconds to wait for a process that writes to the same journal: it folds the journal, and may fit a model."""


class AskTell:
    """A search whose loop is yours: ask for a config, measure it in any way, tell its time.

        with AskTell(space, budget=40, journal="run.jsonl") as search:
            for config in search:
                search.tell(config, time_ms=measure(config))
        print(search.best.config)

    The last asks repeat configs: the three likeliest and the default are handed out seven times each, in turn, because
    times taken once and one after another do not tell which of several fast configs is the fastest. settings=
    {"verify_rounds": 0} leaves that out, and exact=True does where a config always gets the same time.

    Several configs may be out at once, and several threads may ask and tell. Arguments as for `tune`; journal: a new
    file that `autotune show`, `replay` and `AskTell.resume` read. Raises the errors of `tune`.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Parameter],
        strategy: str | AnyStrategy | type[AnyStrategy] | None = None,
        *,
        effort: str | None = None,
        budget: Budget | int | None = None,
        seed: int | None = None,
        journal: PathLike | Literal[False] | None = None,
        seeds: Iterable[Mapping[str, Value]] = (),
        settings: Mapping[str, Any] | None = None,
        exact: bool = False,
    ) -> None:
        options = resolve_options(environment(), strategy, effort, budget, seed, journal, settings, label="ask_tell")
        if options.journal is not None and not isinstance(options.strategy, str):
            name_of(options.strategy)  # by which the journal refers to it
        plan = make_plan(
            as_space(space), options.strategy, exact=exact, effort=options.effort, budget=options.budget,
            seed=options.seed, seeds=seeds, settings={**SETTINGS, **options.settings},
        )  # fmt: skip
        writer = None
        if options.journal is not None:
            writer = JournalWriter.create(options.journal, header_for(plan, {"kind": ASK_TELL}), _WAIT_S)
        self._start(begin_dialogue(plan), writer, WallClock())

    def _start(
        self, dialogue: Dialogue, writer: JournalWriter | None, clock: Callable[[], float], shared: bool = False
    ) -> None:
        """shared: other processes ask and tell in the same journal."""
        self._dialogue = dialogue
        self._writer = writer
        self._clock = clock
        self._shared = shared
        self._reported = False
        self._closed = False
        self._askers: list[tuple[int, threading.Thread]] = []
        self._changed = threading.Condition(threading.RLock())

    @classmethod
    def resume(cls, journal: PathLike, *, space: Space | None = None) -> Self:
        """Go on with the journal of a loop that has ended, however it ended.

        No config that was told is asked for again; the configs that were out are handed out once more. space: needed
        where a constraint is a Python function. Raises JournalError for a journal that is damaged, in use, of another
        space, or of `tune`.
        """
        read = read_journal(as_path(journal, "journal", JournalError))
        dialogue, clock = _fold(read, space), WallClock(_last_time(read))
        self = cls.__new__(cls)
        self._start(dialogue, JournalWriter.append_to(read), clock)
        if read.events and not isinstance(next_step(dialogue, 0, clock()), Finished):
            self._record(Resumed(clock()))
        self._reported = bool(read.events) and isinstance(read.events[-1], Reported)
        return self

    @classmethod
    def attach(cls, journal: PathLike, *, space: Space | None = None, wait_s: float = _WAIT_S) -> Self:
        """Ask and tell in a journal that other processes use too, each for the moment in which it asks or tells.

        Waits at most `wait_s` seconds for another process. Configs that are out stay out, until nothing else is left
        to ask for: then the one that has been out longest is handed out again. The time between two commands counts as
        time of the search. Raises JournalError as `resume` does.
        """
        path = as_path(journal, "journal", JournalError)
        read, writer = JournalWriter.take(path, wait_s)
        try:
            dialogue = _fold(read, space)
        except BaseException:
            writer.close()
            raise
        idle_s = max(0.0, time.time() - os.stat(path).st_mtime) if read.events else 0.0
        self = cls.__new__(cls)
        self._start(dialogue, writer, WallClock(_last_time(read) + idle_s), shared=True)
        self._reported = bool(read.events) and isinstance(read.events[-1], Reported)
        return self

    @overload
    def ask(self, n: None = None) -> Config | None: ...
    @overload
    def ask(self, n: int) -> list[Config]: ...
    def ask(self, n: int | None = None) -> Config | list[Config] | None:
        """The next config to measure; None once the search is over.

        Where nothing can be asked for before an outcome arrives, the call waits for the threads that hold the other
        configs; it raises PlanError if no other thread holds any.
        n: up to so many configs in a list, without waiting: the list is empty where an outcome must arrive first, and
        once the search is over (`done`).
        """
        with self._changed:
            self._refuse_closed()
            if n is not None:
                left = check_integer(n, "n", PlanError, 1)
                found: list[Config] = []
                while len(found) < left and (config := self._hand_out(left - len(found))) is not None:
                    found.append(config)
                return found
            while True:
                if (config := self._hand_out(1)) is not None:
                    return config
                if self._reported:
                    return None
                self._wait_for_others()

    def tell(
        self,
        config: Mapping[str, Value],
        time_ms: float | Sequence[float] | None = None,
        *,
        failed: str | BaseException | None = None,
        kind: FailureKind = "run_error",
        compile_s: float = 0.0,
        run_s: float = 0.0,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Tell the time of a config in milliseconds, or all its samples; or that it failed, with a message or an error.

        A time that is no time (NaN, infinite, not above zero) is recorded as the failure "invalid_time". kind: the kind
        of a failure. compile_s, run_s: seconds that were spent on building the config and on running it.
        A config that was not asked for is taken as a known measurement: the strategy learns from it, it may be the
        pick, and it costs no evaluation of the budget. A second outcome of a config replaces the first.
        Raises ConfigError for a config outside of the space, and PlanError for an unknown one once only the final
        comparison is left.
        """
        outcome = _outcome_of(time_ms, failed, kind, compile_s, run_s, details)
        with self._changed:
            self._refuse_closed()
            for event in answer(self._dialogue, config, outcome, self._clock()):
                self._record(event)
            held = list(self._dialogue.held)
            self._askers = [one for one in self._askers if one[0] in held]
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Whether the search is over: nothing is left to ask for."""
        with self._changed:
            return self._reported or isinstance(self._settle(1), Finished)

    @property
    def pending(self) -> list[Config]:
        """The configs that were asked for and not told, the one that has been out longest first."""
        dialogue = self._dialogue
        return [dialogue.search.trials[trial].config for trial in dict.fromkeys(dialogue.held)]

    @property
    def best(self) -> MeasuredConfig:
        """The best config so far, with its time; raises TuningFailed where none was timed."""
        return self.result().best

    @property
    def search(self) -> Search:
        """The search so far, as an immutable value."""
        return self._dialogue.search

    def result(self) -> Result:
        """The result so far, or the final one; raises TuningFailed where no config was timed."""
        return result(self._dialogue.search)

    def close(self) -> None:
        """Release the journal. The result can still be read; `AskTell.resume` goes on."""
        with self._changed:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Config]:
        """The configs to measure, until the search is over. Each thread may have an iterator of its own."""
        while (config := self.ask()) is not None:
            yield config

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_out(self, room: int) -> Config | None:
        """The next config, recorded as dispatched; None where there is none now."""
        step = self._settle(room)
        if isinstance(step, Wait) and self._shared and self._dialogue.held:
            step = self._dialogue.search.trials[self._dialogue.held[0]]
        if not isinstance(step, Trial):
            return None
        self._record(Dispatched(self._clock(), step.id))
        self._askers.append((step.id, threading.current_thread()))
        return step.config

    def _settle(self, room: int) -> Trial | Wait | Finished:
        """The next step that is not an event; the events before it are recorded."""
        while True:
            step = next_step(self._dialogue, room, self._clock())
            if isinstance(step, Finished):
                if not self._reported:
                    search = self._dialogue.search
                    self._record(Reported(search.clock, result_digest(search)))
                    self._changed.notify_all()
                return step
            if isinstance(step, Trial | Wait):
                return step
            self._refuse_closed()
            self._record(step)

    def _record(self, event: Event) -> None:
        if self._writer is not None:
            self._writer.write(event)
        self._dialogue = follow(self._dialogue, event)
        self._reported = isinstance(event, Reported)

    def _wait_for_others(self) -> None:
        """Wait until a thread that holds a config tells something; PlanError where no other thread can."""
        held, own = self._dialogue.held, threading.current_thread()
        if not any(thread is not own and thread.is_alive() for trial, thread in self._askers if trial in held):
            count = "1 config" if len(held) == 1 else f"{len(held)} configs"
            raise PlanError(
                f"nothing can be asked for before one of the {count} that are out is told; tell it first, or call "
                "ask(n), which gives an empty list meanwhile"
            )
        self._changed.wait(_LOOK_S)
        self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise PlanError("this search was closed; go on with AskTell.resume(journal), or make another one")


def _fold(read: Journal, space: Space | None) -> Dialogue:
    """The dialogue that a journal of asking and telling leads to."""
    kind = read.header.evaluator.get("kind")
    if kind != ASK_TELL:
        raise JournalError(
            f"{read.path} was made with the evaluator {kind!r}, and not by asking and telling; use `resume` with that "
            "evaluator"
        )
    plan: Plan = read.plan(None if space is None else as_space(space))
    return reduce(follow, read.events, begin_dialogue(plan))


def _last_time(read: Journal) -> float:
    return max((event.at for event in read.events), default=0.0)


def _outcome_of(
    time_ms: object,
    failed: object,
    kind: FailureKind,
    compile_s: float,
    run_s: float,
    details: Mapping[str, Detail] | None,
) -> Outcome:
    """The outcome that the arguments of `tell` describe; raises PlanError where they contradict one another."""
    if (time_ms is None) == (failed is None):
        raise PlanError("give either time_ms, in milliseconds, or failed, with the reason")
    outcome: Outcome
    if failed is None:
        outcome = timed_or_failed(_samples(time_ms), float(compile_s), float(run_s))
    else:
        if kind not in FAILURE_KINDS:
            raise argument_error("kind", kind, f"one of {', '.join(FAILURE_KINDS)}", PlanError)
        outcome = Failed(kind, _message(failed), float(compile_s), float(run_s))
    return replace(outcome, details={str(name): plain(value) for name, value in (details or {}).items()})


def _samples(time_ms: object) -> list[float]:
    given = plain(time_ms)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return [given]
    samples = [plain(one) for one in check_items(given, "time_ms", "milliseconds, or a list of samples", PlanError)]
    wrong = next((one for one in samples if isinstance(one, bool) or not isinstance(one, int | float)), None)
    if wrong is not None or not samples:
        shown = short_repr(wrong) if samples else "an empty list"
        raise PlanError(f"time_ms holds {shown}; give at least one number of milliseconds")
    return samples


def _message(failed: object) -> str:
    if isinstance(failed, BaseException):
        return describe_error(failed)
    if not isinstance(failed, str):
        raise argument_error("failed", failed, "the reason as a text, or the error", PlanError)
    return failed[:LONGEST_MESSAGE]
