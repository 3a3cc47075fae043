"""What is known for a key: a config, and how it was come by. And how it is come by when it is not known.

The config for a key: known, looked up in the cache, or searched for.
"""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from autotune.backends.triton_decorator.call_key import Call, Calls
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.launcher import base_of, kernel_of
from autotune.backends.triton_decorator.options import DecoratorOptions, mode_for
from autotune.backends.triton_decorator.tune_call import Job, TuningLog, fault, searched
from autotune.backends.triton_decorator.written_arguments import Effects, effects_of
from autotune.core.config import Config
from autotune.core.outcomes import Outcome, Timed
from autotune.shell.processes.gpu_lock import PATIENCE_S, GpuLock
from autotune.shell.settings import DecoratorMode, Environment, environment

if TYPE_CHECKING:
    from autotune.shell.cache.entries import Entry
    from autotune.shell.cache.reuse import KeyedCache


POLL_S = 0.1
SLOTS = 256


@dataclass(frozen=True, eq=False)
class ResolvedConfig:
    """config: as Triton writes it. launch: what it adds to a launch. hook: called before each launch, or None.

    origin: where it comes from; "only" where there was nothing to choose, "given" where somebody put it there.
    """

    point: Config
    config: Any
    launch: Mapping[str, Any]
    hook: Callable[[dict[str, Any]], Any] | None
    origin: Literal["tuned", "cache", "first", "only", "given"]
    memory: "KeyedCache | None" = None
    outcomes: Mapping[Config, Outcome] | None = None

    @classmethod
    def of(
        cls,
        candidates: Candidates,
        point: Config,
        origin: Literal["tuned", "cache", "first", "only"],
        memory: "KeyedCache | None" = None,
        outcomes: Mapping[Config, Outcome] | None = None,
    ) -> "ResolvedConfig":
        """A point of the candidates."""
        config, hook = candidates.triton_config(point), candidates.hook(point)
        return cls(point, config, candidates.values(point), hook, origin, memory, outcomes)

    @classmethod
    def given(cls, config: Any) -> "ResolvedConfig":
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
    turn, told = GpuLock(f"tuning-{slot}", PATIENCE_S if patience_s is None else patience_s), False
    while not turn.acquire():
        if not told:
            waiting()
            told = True
        time.sleep(POLL_S)
    _held.add(slot)
    try:
        yield
    finally:
        _held.discard(slot)
        turn.release()


def reason_not_to_tune(call: Call, warmup: bool) -> str | None:
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


def warn_once(said: set[str], text: str) -> None:
    """A warning that is not repeated."""
    if text not in said:
        said.add(text)
        warnings.warn(text, stacklevel=4)


class Configs(dict[tuple[Any, ...], Any]):
    """The `triton.Config` of each key, which whoever has the kernel may change; `changed` is called when they do."""

    def __init__(self, known: Mapping[tuple[Any, ...], Any], changed: Callable[[], Any]) -> None:
        super().__init__(known)
        self._changed = changed

    def __setitem__(self, key: tuple[Any, ...], config: Any) -> None:
        super().__setitem__(key, config)
        self._changed()

    def __delitem__(self, key: tuple[Any, ...]) -> None:
        super().__delitem__(key)
        self._changed()

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._changed()

    def pop(self, *args: Any) -> Any:
        """As of any dict; so are the others."""
        self._changed()
        return super().pop(*args)

    def popitem(self) -> Any:
        self._changed()
        return super().popitem()

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self._changed()

    def setdefault(self, key: tuple[Any, ...], config: Any = None) -> Any:
        self._changed()
        return super().setdefault(key, config)

    def __ior__(self, other: Any) -> "Configs":  # type: ignore[override,misc]
        self.update(other)
        return self


class ConfigResolver:
    """Of one decorated kernel. by_key: what is known in this process; cache: the `triton.Config` of each key, which
    others may change. latest: what was searched for or found last; bench_time: seconds that the latest search took.

    changed: called when others have changed the cache.
    """

    def __init__(
        self, fn: Any, calls: Calls, candidates: Candidates, options: DecoratorOptions, changed: Callable[[], Any]
    ) -> None:
        self._fn = fn
        self._kernel = kernel_of(fn)
        self._function: FunctionType = base_of(fn)
        self.calls = calls
        self.candidates = candidates
        self.options = options
        self._said: set[str] = set()
        self.by_key: dict[tuple[Any, ...], ResolvedConfig] = {}
        self.cache = Configs({}, changed)
        self._anew: set[tuple[Any, ...]] = set()
        self.latest: ResolvedConfig | None = None
        self.bench_time: float | None = None

    def find(self, call: Call, grid: Any, warmup: bool) -> tuple[ResolvedConfig, bool]:
        """The config for a call, and whether that may be remembered. Raises what `tune` raises."""
        known = self.known(call)
        if known is not None:
            return known, True
        candidates = self.narrowed(call, grid, warmup)
        if candidates.single:
            return ResolvedConfig.of(candidates, candidates.first, "only"), True
        env = environment()
        mode = mode_for(self.options.mode, env)
        if mode == "off":
            return ResolvedConfig.of(candidates, candidates.first, "first"), True
        why = reason_not_to_tune(call, warmup)
        if why is not None or mode == "lookup":
            return self._looked_up(call, candidates, env, grid, why)
        with tuning_lock(str(call.device)):
            known = self.known(call)
            if known is None:
                mode = "force" if call.canonical in self._anew else mode
                known = self._tuned(call, candidates, env, mode, grid)
                self.remember(call, known)
                self._anew.discard(call.canonical)
            return known, True

    def known(self, call: Call) -> ResolvedConfig | None:
        """What is known for a call. What was taken out of `cache` is forgotten, to be tuned anew; what was put there
        is launched."""
        known, kept = self.by_key.get(call.canonical), self.cache.get(call.canonical)
        if known is not None and kept is None:
            del self.by_key[call.canonical]
            self._anew.add(call.canonical)
            return None
        if kept is not None and (known is None or kept is not known.config):
            known = self.by_key[call.canonical] = ResolvedConfig.given(kept)
        return known

    def remember(self, call: Call, known: ResolvedConfig) -> None:
        """Keep what was found for a call."""
        dict.__setitem__(self.cache, call.canonical, known.config)
        self.by_key[call.canonical] = known

    def forget(self) -> None:
        """Nothing is known any more: there is something else to choose from, or to choose by."""
        self.by_key.clear()
        dict.clear(self.cache)

    def instead_of(self, known: ResolvedConfig, why: str, call: Call, grid: Any) -> ResolvedConfig:
        """Another config than one of the cache that did not launch; it is rejected, and the kernel tuned again."""
        self._reject(known.memory, known.point, why)
        self.by_key.pop(call.canonical, None)
        dict.pop(self.cache, call.canonical, None)
        env, candidates = environment(), self.narrowed(call, grid, False)
        if mode_for(self.options.mode, env) == "lookup" or reason_not_to_tune(call, False) is not None:
            return ResolvedConfig.of(candidates, candidates.first, "first")
        with tuning_lock(str(call.device)):
            return self._tuned(call, candidates, env, "tune", grid)

    def narrowed(self, call: Call, grid: Any, warmup: bool) -> Candidates:
        """The candidates for the arguments of a call."""
        pruning = self.options.pruning
        by_name = {**call.named, **call.options}
        keywords = {name: by_name[name] for name in call.given if name not in call.placed}
        return pruning(self.candidates, call.named, {**keywords, "grid": grid, "warmup": warmup})

    def _looked_up(
        self, call: Call, candidates: Candidates, env: Environment, grid: Any, why: str | None
    ) -> tuple[ResolvedConfig, bool]:
        """What there is without tuning. why: what forbids it just now; None: the mode does."""
        memory = self._memory(call, env, "normal")
        point = None if memory is None else _accepted(memory, candidates, None)
        if point is not None and why is None and (wrong := fault(self._job(call, candidates, grid), point)):
            self._reject(memory, point, wrong)
            point = None
        if point is not None:
            return ResolvedConfig.of(candidates, point, "cache", memory), True
        reason = "it may only be looked up" if why is None else why
        warn_once(
            self._said,
            f"{self._function.__name__} is not tuned for its arguments ({reason}), and runs with its first config,"
            f" {candidates.first}; tune it by a call where that is allowed",
        )
        return ResolvedConfig.of(candidates, candidates.first, "first"), why is None

    def _tuned(
        self, call: Call, candidates: Candidates, env: Environment, mode: DecoratorMode, grid: Any
    ) -> ResolvedConfig:
        """What the cache has, or else what a search finds."""
        memory = self._memory(call, env, "force" if mode == "force" else "normal")
        job = self._job(call, candidates, grid)
        progress = self.options.searching.progress
        baseline = "default" if candidates.configs is None else "first config"
        log = TuningLog(job.label, env.progress if progress is None else progress, baseline)
        if memory is None:
            return self._searched(job, env, None, log)
        known = self._trusted(job, env, memory)
        if known is not None:
            return known
        waiting = partial(log.say, "another process tunes it; this one waits for what it finds")
        budget = self.options.searching.budget_for(env, candidates.configs is not None)
        with alone(memory.key.loose.digest, budget.seconds, waiting):
            return self._trusted(job, env, memory) or self._searched(job, env, memory, log)

    def _trusted(self, job: Job, env: Environment, memory: "KeyedCache") -> ResolvedConfig | None:
        """The config of a search that did at least what is asked for, with this toolchain, and that answers right."""
        from autotune.shell.cache.reuse import sufficient

        if memory.use == "force":
            return None
        searching, candidates = self.options.searching, job.candidates
        effort, budget = searching.effort_for(env), searching.budget_for(env, candidates.configs is not None)
        wanted = [*candidates.seeds, *(candidates.configs or ())]
        versions = memory.strict.versions

        def will_do(entry: "Entry") -> bool:
            return entry.key.versions == versions and sufficient(entry, effort, budget, wanted)

        while (point := _accepted(memory, candidates, will_do)) is not None:
            wrong = fault(job, point)
            if wrong is None:
                self.latest = ResolvedConfig.of(candidates, point, "cache", memory)
                return self.latest
            self._reject(memory, point, wrong)
        return None

    def _searched(self, job: Job, env: Environment, memory: "KeyedCache | None", log: TuningLog) -> ResolvedConfig:
        from autotune.shell.cache.reuse import check_allowed

        check_allowed(env, memory)
        result, outcomes = searched(job, self.options.searching, env, memory, log)
        self.bench_time = result.elapsed_s
        self.latest = ResolvedConfig.of(job.candidates, result.best.config, "tuned", memory, outcomes or None)
        return self.latest

    def _reject(self, memory: "KeyedCache | None", point: Config, why: str) -> None:
        assert memory is not None, "it came from the cache"
        memory.cache.reject(memory.key, point, why)

    def _memory(self, call: Call, env: Environment, use: Any) -> "KeyedCache | None":
        from autotune.backends.triton_decorator.cache_key import memory_of

        return memory_of(self._kernel, self.calls, call, self.options, self.candidates, env, use)

    def _job(self, call: Call, candidates: Candidates, grid: Any) -> Job:
        tuned = candidates.names
        named = {name: value for name, value in call.named.items() if name not in tuned}
        return Job(
            self._fn, self._effects, grid, named, call.options, call.placed, call.given,
            getattr(call.device, "type", "cpu"), type(self._kernel).__name__ == "InterpretedFunction",
            f"{self._function.__name__}({self.calls.shown(call)})", candidates, self.options.measuring,
        )  # fmt: skip

    @cached_property
    def _effects(self) -> Effects | None:
        return effects_of(self._kernel)


def _accepted(memory: "KeyedCache", candidates: Candidates, accept: "Callable[[Entry], bool] | None") -> Config | None:
    """The config that the cache has, if it is one of the candidates."""
    from autotune.shell.cache.reuse import usable

    entry = memory.cache.find(memory.key, accept)
    point = None if entry is None else usable(entry, candidates.space)
    return point if point is None or candidates.configs is None or point in candidates.configs else None
