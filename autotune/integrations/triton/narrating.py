"""What a tuning says of itself on stderr, and what is remembered of its measurements."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from autotune.core.config import Config
from autotune.core.outcomes import Outcome
from autotune.core.search.messages import Event
from autotune.core.search.result import Result
from autotune.core.search.state import Search
from autotune.shell.options import Progress
from autotune.shell.progress import Watch, watching
from autotune.shell.wording import duration, milliseconds


class Narrator:
    """Watches a search. progress: as in `tune`, but that None shows it: whoever waits should know what for."""

    def __init__(self, what: str, progress: Progress, baseline: str = "default") -> None:
        self._what, self._baseline = what, baseline
        self._progress = True if progress is None else progress
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self.last: Search | None = None

    def __call__(self, search: Search, event: Event) -> None:
        if self._watch is None:
            self._watch = self._stack.enter_context(watching(search, self._progress))
        self.last = search
        self._watch(search, event)

    def say(self, text: str) -> None:
        """A line, where lines are wanted."""
        if self._progress is True and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"autotune: {self._what}: {text}", file=sys.stderr, flush=True)

    def begin(self, points: int | None, seconds: float | None) -> None:
        """What will be done."""
        among = "" if points is None else f" among {points:,} configs"
        limit = "" if seconds is None else f", for {duration(seconds)} at most"
        self.say(f"tuning{among}{limit}")

    def end(self, result: Result) -> None:
        """What was found."""
        faster = "" if result.speedup is None else f", {result.speedup.value:.3g}x over the {self._baseline}"
        tried = "" if self.last is None else f"; {result.evaluations} configs in {duration(result.elapsed_s)}"
        kept = "" if result.complete else "; interrupted, and not kept"
        self.say(f"{milliseconds(result.best.time_ms)}{faster}{tried}{kept}: {result.best.config}")

    def close(self) -> None:
        """The search is over."""
        self._stack.close()

    def outcomes(self) -> Mapping[Config, Outcome]:
        """The latest outcome of each config; empty where nothing was measured."""
        if self.last is None:
            return {}
        latest: dict[int, Any] = dict(self.last.outcomes)
        return {trial.config: latest[trial.id] for trial in self.last.trials if trial.id in latest}
