"""The config resolved for a key and where it came from: the cache, a search, or a fallback.

`ConfigResolver.resolve` is called at the first call for a key. It also holds the locks that let one thread, and one
process of the machine, tune a key while the others wait for the result.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import inf
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from autotune.backends.triton.compiler import start_hashing_triton
from autotune.backends.triton_decorator.call_key import Call, Calls
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.launcher import jitted_kernel, python_function
from autotune.backends.triton_decorator.options import DecoratorOptions, miss_for, mode_for
from autotune.backends.triton_decorator.tune_call import TuningLog, TuningTask, find_fault, tune_call
from autotune.backends.triton_decorator.written_arguments import Effects, find_effects
from autotune.core.config import Config
from autotune.core.errors import CacheError
from autotune.core.outcomes import Outcome, Timed
from autotune.shell.processes.gpu_lock import PATIENCE_S, GpuLock
from autotune.shell.settings import DecoratorMode, Environment, environment
from autotune.shell.warn import warn_user

if TYPE_CHECKING:
    from autotune.shell.cache.hit_rule import Requirements
    from autotune.shell.cache.keys import LooseKey, Specialization
    from autotune.shell.cache.reuse import KeyedCache, Use

_POLL_S = 0.1
"""How often to look whether the process that tunes the same key has finished."""
_FEW, _REACH = 6, 1.5
"""Configs that a key is tuned with in any case where a similar one is known, and how much slower than the best there
(relative) the others may be: an optional argument changes the order of configs, but hardly by half."""
_MOST_SCANNED, _MOST_FIELDS = 1000, 3
"""A warning looks for the nearest among so many of the newest entries, and names at most so many of its fields."""
_SLOTS = 256
"""Locks between processes; keys share them by their digests, so that there are only so many files."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ResolvedConfig:
    """A config for a key.

    point: as a point of the space. config: as Triton writes it. launch: what it adds to a launch. hook: called before
    each launch, or None. origin: "tuned", "cache", "table" (a dispatch table), "nearest" (of the nearest shape) or
    "first" where nothing may be tuned, "only" where there is nothing to choose, "given" where the user put it into
    `cache`. keyed: the cache that it came from, or went to. outcomes: of the search that found it. speedup: over the
    first config or the default, by that search. neighbour: the nearest shape, in words.
    """

    point: Config
    config: Any
    launch: Mapping[str, Any]
    hook: Callable[[dict[str, Any]], Any] | None
    origin: Literal["tuned", "cache", "table", "nearest", "first", "only", "given"]
    keyed: "KeyedCache | None" = None
    outcomes: Mapping[Config, Outcome] | None = None
    speedup: float | None = None
    neighbour: str = ""

    @classmethod
    def of(
        cls,
        candidates: Candidates,
        point: Config,
        origin: Literal["tuned", "cache", "table", "nearest", "first", "only"],
        keyed: "KeyedCache | None" = None,
        outcomes: Mapping[Config, Outcome] | None = None,
    ) -> "ResolvedConfig":
        """A point of the candidates."""
        return cls(
            point=point,
            config=candidates.triton_config(point),
            launch=candidates.values(point),
            hook=candidates.hook(point),
            origin=origin,
            keyed=keyed,
            outcomes=outcomes,
        )

    @classmethod
    def from_user(cls, config: Any) -> "ResolvedConfig":
        """A `triton.Config` that the user has put into `cache`."""
        hook = getattr(config, "pre_hook", None)  # of Triton's class
        return cls(point=Config({}), config=config, launch=dict(config.all_kwargs()), hook=hook, origin="given")

    def measured(self) -> Mapping[Config, Outcome]:
        """The outcomes of the search that found it, as far as they are known."""
        if self.outcomes is None and self.keyed is not None:
            found = self.keyed.cache.measurements(self.keyed.key)
            return {config: known.measurement.outcome for config, known in found.items()}
        return self.outcomes or {}

    def timings(self, candidates: Candidates) -> dict[Any, list[float]]:
        """Milliseconds of each measured `triton.Config`: median, least and greatest; infinite where it failed."""
        return {candidates.triton_config(config): _milliseconds(one) for config, one in self.measured().items()}


def _milliseconds(outcome: Outcome) -> list[float]:
    if isinstance(outcome, Timed):
        return [outcome.time_ms, min(outcome.times_ms), max(outcome.times_ms)]
    return [float("inf")] * 3


class ConfigByKey(dict[tuple[Any, ...], Any]):
    """The `triton.Config` of each key, which the user of the kernel may change; `changed` is called when they do."""

    def __init__(self, known: Mapping[tuple[Any, ...], Any], changed: Callable[[], Any]) -> None:
        super().__init__(known)
        self._changed = changed

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __setitem__(self, key: tuple[Any, ...], config: Any) -> None:
        super().__setitem__(key, config)
        self._changed()

    def __delitem__(self, key: tuple[Any, ...]) -> None:
        super().__delitem__(key)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def pop(self, *args: Any) -> Any:
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

    def __ior__(self, other: Any) -> "ConfigByKey":  # type: ignore[override,misc]
        self.update(other)
        return self


class ConfigResolver:
    """The configs of one decorated kernel.

    by_key: the configs resolved in this process. cache: the `triton.Config` of each key, which the user may change.
    latest: the config that was found last, by a search or in the cache. bench_time: seconds of the latest search.
    changed: called when the user has changed `cache`.
    """

    def __init__(
        self, fn: Any, calls: Calls, candidates: Candidates, options: DecoratorOptions, changed: Callable[[], Any]
    ) -> None:
        self._fn = fn
        self._kernel = jitted_kernel(fn)
        self._function: FunctionType = python_function(fn)
        self.calls = calls
        self.candidates = candidates
        self.options = options
        self.by_key: dict[tuple[Any, ...], ResolvedConfig] = {}
        self.cache = ConfigByKey({}, changed)
        self.latest: ResolvedConfig | None = None
        self.bench_time: float | None = None
        self._to_tune_anew: set[tuple[Any, ...]] = set()
        self._tuned: dict[tuple[Any, ...], ResolvedConfig] = {}
        self._locks: dict[tuple[Any, ...], threading.RLock] = {}
        self._warned: set[str] = set()
        self._told_of_nearest = False

    def resolve(
        self, call: Call, grid: Any, warmup: bool, found: Callable[[ResolvedConfig], None]
    ) -> tuple[ResolvedConfig, bool]:
        """The config for a call, and whether it may be remembered. Raises the errors of `tune`.

        found: called with a config that a search or the cache on disk had now.
        """
        known = self.find_known(call)
        if known is not None:
            return known, True
        candidates = self.prune(call, grid, warmup)
        if candidates.single:
            return ResolvedConfig.of(candidates, candidates.first, "only"), True
        env = environment()
        mode = mode_for(self.options.mode, env)
        if mode == "off":
            return ResolvedConfig.of(candidates, candidates.first, "first"), True
        if mode != "force" and (row := self._row_of_table(call, candidates)) is not None:
            return row, True
        obstacle = reason_not_to_tune(call, warmup)
        if obstacle is not None or mode == "lookup":
            known, lasting = self._look_up(call, candidates, env, grid, obstacle)
            if known.origin == "cache":
                found(known)
            return known, lasting
        with self._turn(call):
            known = self.find_known(call)
            if known is not None:  # another thread was faster
                return known, True
            mode = "force" if call.canonical in self._to_tune_anew else mode
            known = self._tune(call, candidates, env, mode, grid)
            self.remember(call, known)
            self._to_tune_anew.discard(call.canonical)
        found(known)
        return known, True

    def find_known(self, call: Call) -> ResolvedConfig | None:
        """The config that this process knows for a call. A key that the user took out of `cache` is tuned anew, and a
        config that the user put there is launched."""
        known, kept = self.by_key.get(call.canonical), self.cache.get(call.canonical)
        if known is not None and kept is None:
            del self.by_key[call.canonical]
            self._to_tune_anew.add(call.canonical)
            return None
        if kept is not None and (known is None or kept is not known.config):
            known = self.by_key[call.canonical] = ResolvedConfig.from_user(kept)
        return known

    def remember(self, call: Call, known: ResolvedConfig) -> None:
        """Keep the config of a call."""
        dict.__setitem__(self.cache, call.canonical, known.config)
        self.by_key[call.canonical] = known
        if known.origin in ("tuned", "cache"):
            self._tuned.setdefault(self.calls.named_values(call), known)

    def forget(self) -> None:
        """Forget all configs: the candidates or the keys have changed."""
        self.by_key.clear()
        self._tuned.clear()
        dict.clear(self.cache)

    def replace_failed(self, failed: ResolvedConfig, reason: str, call: Call, grid: Any) -> ResolvedConfig:
        """Another config in place of one of the cache that did not launch: it is rejected, and the kernel tuned again,
        where that is allowed. One of the nearest shape, or of a table, stays there."""
        if failed.origin != "cache":
            candidates = self.prune(call, grid, False)
            of = "its table" if failed.origin == "table" else "the nearest shape"
            self._warn_once(
                f"{self._function.__name__} does not launch with the config of {of} ({reason}), and runs"
                f" with its first config, {candidates.first}"
            )
            return ResolvedConfig.of(candidates, candidates.first, "first")
        assert failed.keyed is not None, "it came from the cache"
        failed.keyed.reject(failed.point, reason)
        self.by_key.pop(call.canonical, None)
        dict.pop(self.cache, call.canonical, None)
        env, candidates = environment(), self.prune(call, grid, False)
        if mode_for(self.options.mode, env) == "lookup" or reason_not_to_tune(call, False) is not None:
            return ResolvedConfig.of(candidates, candidates.first, "first")
        with self._turn(call):
            return self._tune(call, candidates, env, "tune", grid)

    @contextmanager
    def _turn(self, call: Call) -> Iterator[None]:
        """One thread tunes a key, and the others wait. Threads that tune different keys compile at the same time, and
        take turns in timing on a GPU (`GpuLock`); on other devices one tunes after the other."""
        with _guard:
            lock = self._locks.setdefault(call.canonical, threading.RLock())
        with ExitStack() as stack:
            stack.enter_context(lock)
            if getattr(call.device, "type", "cpu") != "cuda":
                stack.enter_context(device_lock(str(call.device)))
            try:
                yield
            finally:
                with _guard:
                    self._locks.pop(call.canonical, None)

    def _narrow(self, call: Call, candidates: Candidates) -> Candidates:
        """The configs of a list that may be the fastest for a call, where a key of the same named values is tuned.

        Such keys differ in an optional tensor, a stride or an alignment. Configs that were much slower there are left
        out; those that were not measured, and the fastest few in any case, are kept.
        """
        known = self._tuned.get(self.calls.named_values(call))
        if known is None or candidates.configs is None or len(candidates.configs) <= _FEW:
            return candidates
        times = {config: one.time_ms for config, one in known.measured().items() if isinstance(one, Timed)}
        if not times:
            return candidates
        reach = max(sorted(times.values())[:_FEW][-1], min(times.values()) * _REACH)
        seen = known.measured()
        kept = tuple(one for one in candidates.configs if one not in seen or times.get(one, inf) <= reach)
        left_out = tuple(one for one in candidates.configs if one not in kept)
        return replace(candidates, configs=kept, left_out=left_out) if len(kept) > 1 else candidates

    def prune(self, call: Call, grid: Any, warmup: bool) -> Candidates:
        """The candidates for the arguments of a call."""
        by_name = {**call.named, **call.options}
        keywords = {name: by_name[name] for name in call.given if name not in call.placed}
        return self.options.pruning(self.candidates, call.named, {**keywords, "grid": grid, "warmup": warmup})

    def _look_up(
        self, call: Call, candidates: Candidates, env: Environment, grid: Any, obstacle: str | None
    ) -> tuple[ResolvedConfig, bool]:
        """The config without tuning. obstacle: why tuning is impossible just now; None: the mode forbids it."""
        keyed = self._keyed_cache(call, env, "normal")
        # A check runs the kernel, which is forbidden where there is an obstacle.
        checked = None if obstacle is not None else self._task(call, candidates, grid)
        point = None if keyed is None else _find_hit(keyed, candidates, None, checked)
        if point is not None:
            return ResolvedConfig.of(candidates, point, "cache", keyed), True
        near = self._stand_in(call, candidates, env, keyed, checked)
        if near is not None:
            return near, obstacle is None
        self._warn_once(
            f"{self._function.__name__} is not tuned for its arguments ({obstacle or 'it may only be looked up'}), and"
            f" runs with its first config, {candidates.first}; tune it by a call where that is allowed",
            lambda: "" if keyed is None else _nearest_difference(keyed),
        )
        return ResolvedConfig.of(candidates, candidates.first, "first"), obstacle is None

    def _row_of_table(self, call: Call, candidates: Candidates) -> ResolvedConfig | None:
        """The config that the dispatch table has for this very shape."""
        table, shape = self.candidates.table, self._shape_in_table(call)
        if table is None or shape is None:
            return None
        from autotune.backends.triton_decorator.untuned_shape import point_in_table

        point = point_in_table(table, shape, candidates)
        return None if point is None else ResolvedConfig.of(candidates, point, "table")

    def _stand_in(
        self, call: Call, candidates: Candidates, env: Environment, keyed: "KeyedCache | None", task: TuningTask | None
    ) -> ResolvedConfig | None:
        """The config of the nearest shape, of the table if there is one, else of the cache; what is used and why is
        said once. task: to check its output with, None: no check."""
        from autotune.backends.triton_decorator.untuned_shape import nearest_in_cache, nearest_in_table

        table = self.candidates.table
        if miss_for(self.options.miss, env, "first" if table is None else "nearest") == "first":
            return None
        if table is None:
            found = None if keyed is None else nearest_in_cache(keyed, candidates)
        else:
            shape = self._shape_in_table(call)
            found = None if shape is None else nearest_in_table(table, shape, candidates)
        if found is None or (task is not None and find_fault(task, found.point) is not None):
            return None
        if not self._told_of_nearest:
            self._told_of_nearest = True
            progress = self.options.searching.progress
            log = TuningLog(self._function.__name__, env.progress if progress is None else progress)
            log.say(found.description)
        return replace(ResolvedConfig.of(candidates, found.point, "nearest"), neighbour=found.shape)

    def _shape_in_table(self, call: Call) -> "Specialization | None":
        """The shape of a call as the dispatch table has it; None without a table, and for one of another device."""
        table = self.candidates.table
        if table is None:
            return None
        from autotune.backends.triton_decorator.untuned_shape import shape_in_table

        try:
            return shape_in_table(table, self.calls, call)
        except CacheError as error:
            self._warn_once(f"{self._function.__name__} does not use its table: {error}")
            return None

    def _tune(
        self, call: Call, candidates: Candidates, env: Environment, mode: DecoratorMode, grid: Any
    ) -> ResolvedConfig:
        """The config of the cache, or of a search."""
        if getattr(call.device, "type", "cpu") == "cuda":
            start_hashing_triton()  # while the cache is read
        keyed = self._keyed_cache(call, env, "force" if mode == "force" else "normal")
        task = self._task(call, candidates if mode == "force" else self._narrow(call, candidates), grid)
        progress = self.options.searching.progress
        baseline = "default" if candidates.configs is None else "first config"
        log = TuningLog(task.label, env.progress if progress is None else progress, baseline)
        if keyed is None:
            return self._search(task, env, None, log)
        found = self._find_remembered(task, env, keyed)
        if found is not None:
            return found
        waiting = partial(log.say, "another process tunes it; this one waits for what it finds")
        budget = self.options.searching.budget_for(env, candidates.configs is not None)
        with exclusive_tuning(keyed.key.loose.digest, budget.seconds, waiting):
            return self._find_remembered(task, env, keyed) or self._search(task, env, keyed, log)

    def _find_remembered(self, task: TuningTask, env: Environment, keyed: "KeyedCache") -> ResolvedConfig | None:
        """The config of a search that did at least what is asked for, with this toolchain, if its output is right."""
        from autotune.shell.cache.hit_rule import Requirements

        searching, candidates = self.options.searching, task.candidates
        wanted = Requirements(
            effort=searching.effort_for(env),
            budget=searching.budget_for(env, candidates.configs is not None),
            configs=(*candidates.seeds, *(candidates.configs or ())),
        )
        point = _find_hit(keyed, candidates, wanted, task)
        if point is None:
            return None
        self.latest = ResolvedConfig.of(candidates, point, "cache", keyed)
        return self.latest

    def _search(self, task: TuningTask, env: Environment, keyed: "KeyedCache | None", log: TuningLog) -> ResolvedConfig:
        from autotune.shell.cache.reuse import check_allowed

        check_allowed(env, keyed)
        result, outcomes = tune_call(task, self.options.searching, env, keyed, log)
        self.bench_time = result.elapsed_s
        found = ResolvedConfig.of(task.candidates, result.best.config, "tuned", keyed, outcomes or None)
        self.latest = found if result.speedup is None else replace(found, speedup=result.speedup.value)
        return self.latest

    def _keyed_cache(self, call: Call, env: Environment, use: "Use") -> "KeyedCache | None":
        from autotune.backends.triton_decorator.cache_key import keyed_cache_of

        return keyed_cache_of(self._kernel, self.calls, call, self.options, self.candidates, env, use)

    def _task(self, call: Call, candidates: Candidates, grid: Any) -> TuningTask:
        tuned = candidates.names
        return TuningTask(
            kernel=self._fn,
            find_effects=self._effects,
            grid=grid,
            named={name: value for name, value in call.named.items() if name not in tuned},
            options=call.options,
            placed=call.placed,
            given=call.given,
            device=getattr(call.device, "type", "cpu"),  # torch's, or none at all
            interpreted=type(self._kernel).__name__ == "InterpretedFunction",
            label=f"{self._function.__name__}({self.calls.describe(call)})",
            candidates=candidates,
            measuring=self.options.measuring,
        )

    def _effects(self) -> Effects | None:
        return self._found_effects

    @cached_property
    def _found_effects(self) -> Effects | None:
        return find_effects(self._kernel)

    def _warn_once(self, text: str, more: Callable[[], str] = str) -> None:
        """Warn of this text once, with more that is only then looked up."""
        if text not in self._warned:
            self._warned.add(text)
            warn_user(text + more())


def _nearest_difference(keyed: "KeyedCache") -> str:
    """The fields in which the nearest finished entry of a kernel of this name differs, for a warning; "" if none is."""
    from autotune.shell.cache.inspect import explain

    for near in explain(keyed.cache, keyed.key.loose, at_most=3, max_scan=_MOST_SCANNED):
        if near.entry.finished and near.differences and _name(near.entry.key.loose) == _name(keyed.key.loose):
            fields = "; ".join(f"{d.field} is {d.wanted} and was {d.found}" for d in near.differences[:_MOST_FIELDS])
            more = len(near.differences) - _MOST_FIELDS
            left = f"; and {more} more" if more > 0 else ""
            return f". The nearest tuned entry (run {near.entry.run.id[:8]}) differs: {fields}{left}"
    return ""


def _name(key: "LooseKey") -> str:
    """The kernel's name without its module, which is another one where the file is run as a program."""
    return key.kernel.rpartition(".")[2]


def _find_hit(
    keyed: "KeyedCache", candidates: Candidates, wanted: "Requirements | None", task: TuningTask | None
) -> Config | None:
    """The config that the cache has, if it is one of the candidates.

    wanted: what its search must have done, with the installed toolchain; None: anything. task: to check the config's
    output with, where there is a reference; a wrong one is rejected. None: no check.
    """

    def is_candidate(config: Config) -> bool:
        return candidates.configs is None or config in candidates.configs

    def validate(config: Config) -> str | None:
        return find_fault(task, config) if task is not None and is_candidate(config) else None

    hit = keyed.hit(wanted, candidates.space, same_versions=wanted is not None, validate=validate)
    return hit.config if hit is not None and is_candidate(hit.config) else None


_device_locks: dict[str, threading.RLock] = {}
_guard = threading.Lock()
_held_slots: set[int] = set()


def _after_fork() -> None:
    """A child has none of the threads that may have held a lock when it was forked."""
    global _guard
    _guard = threading.Lock()
    _device_locks.clear()
    _held_slots.clear()


os.register_at_fork(after_in_child=_after_fork)


def device_lock(device: str) -> threading.RLock:
    """The lock that keeps two threads from timing on one device at once."""
    with _guard:
        return _device_locks.setdefault(device, threading.RLock())


@contextmanager
def exclusive_tuning(digest: str, patience_s: float | None, waiting: Callable[[], None]) -> Iterator[None]:
    """While it lasts, no other process on this machine tunes the key of this digest; wait for one that does.

    patience_s: seconds to wait at most; None: ten minutes. A process that is stopped is not waited for, and a warning
    says so. waiting: called once if there is another process.
    """
    slot = int(digest[:8], 16) % _SLOTS
    if slot in _held_slots:  # a tuning within a tuning
        yield
        return
    lock, told = GpuLock(f"tuning-{slot}", PATIENCE_S if patience_s is None else patience_s), False
    while not lock.acquire():
        if not told:
            waiting()
            told = True
        time.sleep(_POLL_S)
    _held_slots.add(slot)
    try:
        yield
    finally:
        _held_slots.discard(slot)
        lock.release()


def reason_not_to_tune(call: Call, warmup: bool) -> str | None:
    """Why nothing may be tuned at this very moment, for people; None if it may."""
    torch = sys.modules.get("torch")
    if warmup:
        return "this is a warm-up"
    if torch is None:
        return None
    with suppress(AttributeError):
        if torch.compiler.is_compiling():
            return "torch.compile traces it"
    kind = getattr(call.device, "type", "cpu")
    capturing = getattr(getattr(torch, kind, None), "is_current_stream_capturing", None)  # torch's, for some makes
    if capturing is not None and capturing():
        return "a CUDA graph is being captured" if kind == "cuda" else "a graph of launches is being captured"
    if kind == "meta" or any(_is_fake(value) for value in call.named.values()):
        return "its tensors have no memory"
    return None


def _is_fake(value: Any) -> bool:
    return any(kind.__name__ in ("FakeTensor", "FunctionalTensor") for kind in type(value).__mro__)


def is_launch_failure(error: Exception) -> bool:
    """Whether an error may be due to the config: of Triton's compiler, its driver, or the limits of the device."""
    if isinstance(error, TypeError | KeyError) or type(error).__name__ == "OutOfMemoryError":
        return False
    return isinstance(error, RuntimeError | MemoryError) or type(error).__module__.startswith("triton.")
