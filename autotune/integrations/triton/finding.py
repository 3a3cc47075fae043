"""The config for a key: known, looked up in the cache, or searched for."""

from collections.abc import Callable
from functools import cached_property, partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from autotune.core.config import Config
from autotune.integrations.triton.calls import Call, Calls
from autotune.integrations.triton.candidates import Candidates
from autotune.integrations.triton.effects import Effects, effects_of
from autotune.integrations.triton.known import Known, alone, say_once, tuning_lock, why_not_now
from autotune.integrations.triton.launcher import base_of, kernel_of
from autotune.integrations.triton.narrating import Narrator
from autotune.integrations.triton.tuning import Job, fault, searched
from autotune.integrations.triton.wishes import Wishes, mode_for
from autotune.shell.settings import Environment, Mode, environment

if TYPE_CHECKING:
    from autotune.shell.cache.entries import Entry
    from autotune.shell.cache.use import Memory


class Finder:
    """Of one decorated kernel. by_key: what is known in this process. latest: what was searched for or found last."""

    def __init__(self, fn: Any, calls: Calls, candidates: Candidates, wishes: Wishes) -> None:
        self._fn = fn
        self._kernel = kernel_of(fn)
        self._function: FunctionType = base_of(fn)
        self._calls = calls
        self.candidates = candidates
        self._wishes = wishes
        self._said: set[str] = set()
        self.by_key: dict[tuple[Any, ...], Known] = {}
        self.latest: Known | None = None

    def find(self, call: Call, grid: Any, warmup: bool) -> tuple[Known, bool]:
        """The config for a call, and whether that may be remembered. Raises what `tune` raises."""
        known = self.by_key.get(call.canonical)
        if known is not None:
            return known, True
        candidates = self.narrowed(call)
        if candidates.single:
            return Known.of(candidates, candidates.first, "only"), True
        env = environment()
        mode = mode_for(self._wishes.mode, env)
        if mode == "off":
            return Known.of(candidates, candidates.first, "first"), True
        why = why_not_now(call, warmup)
        if why is not None or mode == "lookup":
            return self._looked_up(call, candidates, env, grid, why)
        with tuning_lock(str(call.device)):
            known = self.by_key.get(call.canonical)
            if known is None:
                known = self.by_key[call.canonical] = self._tuned(call, candidates, env, mode, grid)
            return known, True

    def instead_of(self, known: Known, why: str, call: Call, grid: Any) -> Known:
        """Another config than one of the cache that did not launch; it is rejected, and the kernel tuned again."""
        self._reject(known.memory, known.point, why)
        self.by_key.pop(call.canonical, None)
        env, candidates = environment(), self.narrowed(call)
        if mode_for(self._wishes.mode, env) == "lookup" or why_not_now(call, False) is not None:
            return Known.of(candidates, candidates.first, "first")
        with tuning_lock(str(call.device)):
            return self._tuned(call, candidates, env, "tune", grid)

    def narrowed(self, call: Call) -> Candidates:
        """The candidates for the arguments of a call."""
        pruning = self._wishes.pruning
        return self.candidates if pruning is None else pruning(self.candidates, call.named, call.options)

    def _looked_up(
        self, call: Call, candidates: Candidates, env: Environment, grid: Any, why: str | None
    ) -> tuple[Known, bool]:
        """What there is without tuning. why: what forbids it just now; None: the mode does."""
        memory = self._memory(call, env, "normal")
        point = None if memory is None else _accepted(memory, candidates, None)
        if point is not None and why is None and (wrong := fault(self._job(call, candidates, grid), point)):
            self._reject(memory, point, wrong)
            point = None
        if point is not None:
            return Known.of(candidates, point, "cache", memory), True
        reason = "it may only be looked up" if why is None else why
        say_once(
            self._said,
            f"{self._function.__name__} is not tuned for its arguments ({reason}), and runs with its first config,"
            f" {candidates.first}; tune it by a call where that is allowed",
        )
        return Known.of(candidates, candidates.first, "first"), why is None

    def _tuned(self, call: Call, candidates: Candidates, env: Environment, mode: Mode, grid: Any) -> Known:
        """What the cache has, or else what a search finds."""
        memory = self._memory(call, env, "force" if mode == "force" else "normal")
        job = self._job(call, candidates, grid)
        progress = self._wishes.searching.progress
        baseline = "default" if candidates.configs is None else "first config"
        narrator = Narrator(job.label, env.progress if progress is None else progress, baseline)
        if memory is None:
            return self._searched(job, env, None, narrator)
        known = self._trusted(job, env, memory)
        if known is not None:
            return known
        waiting = partial(narrator.say, "another process tunes it; this one waits for what it finds")
        with alone(memory.key.loose.digest, waiting):
            return self._trusted(job, env, memory) or self._searched(job, env, memory, narrator)

    def _trusted(self, job: Job, env: Environment, memory: "Memory") -> Known | None:
        """The config of a search that did at least what is asked for, with this toolchain, and that answers right."""
        from autotune.shell.cache.use import sufficient

        if memory.use == "force":
            return None
        searching, candidates = self._wishes.searching, job.candidates
        effort, budget = searching.effort_for(env), searching.budget_for(env, candidates.configs is not None)
        wanted = [*candidates.seeds, *(candidates.configs or ())]
        versions = memory.strict.versions

        def will_do(entry: "Entry") -> bool:
            return entry.key.versions == versions and sufficient(entry, effort, budget, wanted)

        while (point := _accepted(memory, candidates, will_do)) is not None:
            wrong = fault(job, point)
            if wrong is None:
                self.latest = Known.of(candidates, point, "cache", memory)
                return self.latest
            self._reject(memory, point, wrong)
        return None

    def _searched(self, job: Job, env: Environment, memory: "Memory | None", narrator: Narrator) -> Known:
        from autotune.shell.cached_tuning import check_allowed

        check_allowed(env, memory)
        result, outcomes = searched(job, self._wishes.searching, env, memory, narrator)
        self.latest = Known.of(job.candidates, result.best.config, "tuned", memory, outcomes or None)
        return self.latest

    def _reject(self, memory: "Memory | None", point: Config, why: str) -> None:
        assert memory is not None, "it came from the cache"
        memory.cache.reject(memory.key, point, why)

    def _memory(self, call: Call, env: Environment, use: Any) -> "Memory | None":
        from autotune.integrations.triton.remembering import memory_of

        return memory_of(self._kernel, self._calls, call, self._wishes, self.candidates, env, use)

    def _job(self, call: Call, candidates: Candidates, grid: Any) -> Job:
        tuned = candidates.names
        named = {name: value for name, value in call.named.items() if name not in tuned}
        return Job(
            self._fn, self._effects, grid, named, call.options, call.placed, call.given,
            getattr(call.device, "type", "cpu"), type(self._kernel).__name__ == "InterpretedFunction",
            f"{self._function.__name__}({self._calls.shown(call)})", candidates, self._wishes.measuring,
        )  # fmt: skip

    @cached_property
    def _effects(self) -> Effects | None:
        return effects_of(self._kernel)


def _accepted(memory: "Memory", candidates: Candidates, accept: "Callable[[Entry], bool] | None") -> Config | None:
    """The config that the cache has, if it is one of the candidates."""
    from autotune.shell.cache.use import usable

    entry = memory.cache.find(memory.key, accept)
    point = None if entry is None else usable(entry, candidates.space)
    return point if point is None or candidates.configs is None or point in candidates.configs else None
