"""What is known for a key: a config, and how it was come by. And how it is come by when it is not known."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from autotune.core.config import Config
from autotune.core.outcomes import Outcome, Timed
from autotune.integrations.triton.calls import Call
from autotune.integrations.triton.candidates import Candidates
from autotune.shell.turn import PATIENCE_S, Turn

if TYPE_CHECKING:
    from autotune.shell.cache.use import Memory

POLL_S = 0.1
SLOTS = 256


@dataclass(frozen=True, eq=False)
class Known:
    """config: as Triton writes it. launch: what it adds to a launch. hook: called before each launch, or None.

    origin: where it comes from; "only" where there was nothing to choose, "given" where somebody put it there.
    """

    point: Config
    config: Any
    launch: Mapping[str, Any]
    hook: Callable[[dict[str, Any]], Any] | None
    origin: Literal["tuned", "cache", "first", "only", "given"]
    memory: "Memory | None" = None
    outcomes: Mapping[Config, Outcome] | None = None

    @classmethod
    def of(
        cls,
        candidates: Candidates,
        point: Config,
        origin: Literal["tuned", "cache", "first", "only"],
        memory: "Memory | None" = None,
        outcomes: Mapping[Config, Outcome] | None = None,
    ) -> "Known":
        """A point of the candidates."""
        config, hook = candidates.triton_config(point), candidates.hook(point)
        return cls(point, config, candidates.values(point), hook, origin, memory, outcomes)

    @classmethod
    def given(cls, config: Any) -> "Known":
        """A `triton.Config` that nobody has chosen."""
        return cls(Config({}), config, dict(config.all_kwargs()), getattr(config, "pre_hook", None), "given")

    def timings(self, candidates: Candidates) -> dict[Any, list[float]]:
        """Milliseconds of each measured `triton.Config`: median, least and greatest; infinite where it failed."""
        outcomes = self.outcomes
        if outcomes is None and self.memory is not None:
            found = self.memory.cache.measurements(self.memory.key)
            outcomes = {config: known.measurement.outcome for config, known in found.items()}
        return {candidates.triton_config(config): _milliseconds(one) for config, one in (outcomes or {}).items()}


def _milliseconds(outcome: Outcome) -> list[float]:
    if isinstance(outcome, Timed):
        return [outcome.time_ms, min(outcome.times_ms), max(outcome.times_ms)]
    return [float("inf")] * 3


_locks: dict[str, threading.RLock] = {}
_guard = threading.Lock()
_held: set[int] = set()


def _forked() -> None:
    """A child has none of the threads that may have held a lock when it was forked."""
    global _guard
    _guard = threading.Lock()
    _locks.clear()
    _held.clear()


os.register_at_fork(after_in_child=_forked)


def tuning_lock(device: str) -> threading.RLock:
    """Two threads do not time on one device at once."""
    with _guard:
        return _locks.setdefault(device, threading.RLock())


@contextmanager
def alone(digest: str, patience_s: float | None, waiting: Callable[[], None]) -> Iterator[None]:
    """Of the processes on this machine that would tune the same thing, one does so; the others wait for what it finds.

    patience_s: for how long they do, at most; None: for ten minutes. A process that is stopped is not waited for; a
    warning says that. waiting: called once where another one is at it.
    """
    slot = int(digest[:8], 16) % SLOTS
    if slot in _held:  # a tuning within a tuning
        yield
        return
    turn, told = Turn(f"tuning-{slot}", PATIENCE_S if patience_s is None else patience_s), False
    while not turn.take():
        if not told:
            waiting()
            told = True
        time.sleep(POLL_S)
    _held.add(slot)
    try:
        yield
    finally:
        _held.discard(slot)
        turn.leave()


def why_not_now(call: Call, warmup: bool) -> str | None:
    """What forbids to tune at this very moment; None if nothing does."""
    torch = sys.modules.get("torch")
    if warmup:
        return "this is a warm-up"
    if torch is None:
        return None
    with suppress(AttributeError):
        if torch.compiler.is_compiling():
            return "torch.compile traces it"
    if getattr(call.device, "type", "") == "cuda" and torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is being captured"
    if getattr(call.device, "type", "") == "meta" or any(_is_fake(value) for value in call.named.values()):
        return "its tensors have no memory"
    return None


def _is_fake(value: Any) -> bool:
    return any(kind.__name__ in ("FakeTensor", "FunctionalTensor") for kind in type(value).__mro__)


def failed_at_launch(error: Exception) -> bool:
    """Whether an error may be the config's: of Triton's compiler, its driver, or the device's limits."""
    if isinstance(error, TypeError | KeyError) or type(error).__name__ == "OutOfMemoryError":
        return False
    return isinstance(error, RuntimeError | MemoryError) or type(error).__module__.startswith("triton.")


def say_once(said: set[str], text: str) -> None:
    """A warning that is not repeated."""
    if text not in said:
        said.add(text)
        warnings.warn(text, stacklevel=4)
