"""A kernel that is tuned at its first call for a key; from then on a call costs one look into a dict more."""

from collections.abc import Callable
from functools import partial
from typing import Any

from autotune.core.errors import PlanError
from autotune.integrations.triton.calls import Call, Calls
from autotune.integrations.triton.candidates import Candidates
from autotune.integrations.triton.finding import Finder
from autotune.integrations.triton.known import Known, failed_at_launch
from autotune.integrations.triton.launcher import base_of, heuristic_names
from autotune.integrations.triton.tracing import leave_graph, look_away, tracer
from autotune.integrations.triton.wishes import Wishes

REMEMBERED = 8192
"""Exact argument values that are remembered at most; then they are led to their keys anew."""


class TunedKernel:
    """What `autotune.triton` makes of a kernel; it is launched, warmed up and asked as what `triton.autotune` makes.

    fn: the kernel below. best_config: that of the latest launch. cache: the `triton.Config` of each key that is known.
    """

    def __init__(self, fn: Any, calls: Calls, candidates: Candidates, wishes: Wishes) -> None:
        self.fn = fn
        self.base_fn = base_of(fn)
        self.arg_names = list(calls.names)
        self.keys = list(calls.keys)
        self.best_config: Any = None
        self.cache: dict[tuple[Any, ...], Any] = {}
        self._calls = calls
        self._raw = calls.raw
        self._provided = candidates.names | heuristic_names(fn)
        self._traced = tracer()
        look_away(TunedKernel.run.__code__)
        self._finder = Finder(fn, calls, candidates, wishes)
        self._known: dict[tuple[Any, ...], Known] = {}
        self.__name__ = self.base_fn.__name__
        self.__qualname__ = self.base_fn.__qualname__
        self.__module__ = self.base_fn.__module__
        self.__doc__ = self.base_fn.__doc__

    def __repr__(self) -> str:
        return f"<autotune.triton of {self.__module__}.{self.__qualname__}, {len(self.cache)} keys known>"

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return partial(self.run, grid=grid, warmup=False)

    def run(self, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> Any:
        """Launch with the config that is known for these arguments; the first call finds it out."""
        if self._traced():
            leave_graph()
        raw = self._raw(args, kwargs)
        try:
            known = self._known.get(raw)
        except TypeError:  # an argument that cannot be looked up
            known = None
        if known is None:
            return self._first(raw, args, kwargs, grid, warmup)
        if known.hook is not None:
            known.hook({**dict(zip(self.arg_names, args, strict=False)), **kwargs, **known.launch})
        self.best_config = known.config
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs, **known.launch)

    def warmup(self, *args: Any, grid: Any = None, **kwargs: Any) -> list[Any]:
        """Compile without launching: the config of these arguments if it is known, else all of the list, or the first
        of the space."""
        call = self._calls.bound(args, kwargs)
        known, candidates = self._finder.by_key.get(call.canonical), self._finder.narrowed(call)
        points = [known.point] if known is not None else list(candidates.configs or (candidates.first,))
        return [self.fn.warmup(*args, grid=grid, **kwargs, **candidates.values(point)) for point in points]

    @property
    def configs(self) -> list[Any]:
        """The `triton.Config`s of the list; of a space, the one to begin with."""
        candidates = self._finder.candidates
        return [candidates.triton_config(point) for point in candidates.configs or (candidates.first,)]

    @property
    def configs_timings(self) -> dict[Any, list[float]]:
        """What was measured for the key that was found out last: median, least and greatest milliseconds of each
        `triton.Config`, infinite where it failed."""
        latest = self._finder.latest
        return {} if latest is None else latest.timings(self._finder.candidates)

    def _first(
        self, raw: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool
    ) -> Any:
        """A call of arguments not seen before."""
        call = self._calls.bound(args, kwargs)
        self._check(call)
        known, lasting = self._finder.find(call, grid, warmup)
        try:
            result = self._launched(known, args, kwargs, grid, warmup)
        except Exception as error:
            if known.origin != "cache" or not failed_at_launch(error):
                raise
            known = self._finder.instead_of(known, f"{type(error).__name__}: {error}", call, grid)
            result = self._launched(known, args, kwargs, grid, warmup)
        if lasting:
            self._remember(raw, call, known)
        return result

    def _launched(self, known: Known, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool) -> Any:
        self.best_config = known.config
        if known.hook is not None:
            known.hook({**dict(zip(self.arg_names, args, strict=False)), **kwargs, **known.launch})
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs, **known.launch)

    def _remember(self, raw: tuple[Any, ...], call: Call, known: Known) -> None:
        if len(self.cache) >= REMEMBERED and known.origin in ("only", "first"):
            return  # it took no search, and there are as many as there are values
        self._finder.by_key[call.canonical] = known
        self.cache[call.canonical] = known.config
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        try:
            self._known[raw] = known
        except TypeError:  # it is led to its key anew each time
            return

    def _check(self, call: Call) -> None:
        """Raises PlanError where the call sets what is to be tuned, TypeError where it lacks an argument."""
        missing = [name for name in self.arg_names if name not in call.named and name not in self._provided]
        if missing:
            raise TypeError(f"the call of {self.__name__} lacks {', '.join(missing)}")
        clash = sorted(self._finder.candidates.names & call.given)
        if clash:
            raise PlanError(
                f"the call of {self.__name__} sets {', '.join(clash)}, which is to be tuned; leave it out of the call,"
                " or out of the configs"
            )
