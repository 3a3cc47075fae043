"""A kernel that is tuned at its first call for a key; from then on a call costs one look into a dict more.

`torch.compile` goes around a launch: it leaves its graph there, and what runs then is not looked at.

Nothing of the compiler is imported for that; it would take seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any

from autotune.backends.triton_decorator.call_key import Call, Calls
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.launcher import base_of, heuristic_names
from autotune.backends.triton_decorator.options import DecoratorOptions, check_names
from autotune.backends.triton_decorator.resolve import ConfigResolver, Configs, ResolvedConfig, failed_at_launch
from autotune.core.errors import PlanError


def never() -> bool:
    """Where there is no torch, nothing traces."""
    return False


def tracer() -> Callable[[], bool]:
    """What tells whether torch is tracing the code that asks."""
    try:
        from torch.compiler import is_compiling
    except ImportError:
        return never
    found: Callable[[], bool] = is_compiling
    return found


def leave_graph() -> None:
    """To be called where the code is being traced: what called it is not made a part of the graph, but called."""
    import torch

    torch._dynamo.graph_break()


def look_away(code: CodeType) -> None:
    """Have neither this function nor what it calls traced when it is called from outside of a graph."""
    with suppress(ImportError, AttributeError):  # of torch's own parts: without them it is slower there, not wrong
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

        set_code_exec_strategy(code, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))


REMEMBERED = 8192
"""Exact argument values that are remembered at most; then they are led to their keys anew."""


def _as_it_is(value: Any) -> Any:
    return value


class _Setting:
    """A setting of the decorator under the name that Triton's class has for it. What is set counts from then on; what
    is known stays known, as there."""

    def __init__(self, of: str, name: str, shown: Callable[[Any], Any] = _as_it_is) -> None:
        self._of, self._name, self._shown = of, name, shown

    def __set_name__(self, owner: type, name: str) -> None:
        self.__doc__ = f"As `triton.autotune` has it: `{name}`."

    def __get__(self, kernel: "TunedKernel | None", owner: type) -> Any:
        if kernel is None:
            return self
        options = kernel._resolver.options
        return self._shown(getattr(getattr(options, self._of), self._name))

    def __set__(self, kernel: "TunedKernel", value: Any) -> None:
        options = kernel._resolver.options
        if self._name in ("reset_to_zero", "restore_value"):
            value = check_names(self._name, value, kernel.arg_names)
        part: Any = getattr(options, self._of)
        changed: dict[str, Any] = {self._of: replace(part, **{self._name: value})}
        kernel._resolver.options = replace(options, **changed)


ABSENT = {
    "check_disk_cache": "results on disk are kept by autotune's own cache; see `autotune cache list`",
    "_bench": "configs are timed by an evaluator; give do_bench to time them yourself",
    "restore_copies": "tensors are copied for a tuning as a whole",
}
"""What Triton's class has and this one has not, and what there is in its place."""


class TunedKernel:
    """What `autotune.triton` makes of a kernel; it is launched, warmed up and asked as what `triton.autotune` makes.

    fn: the kernel below. best_config: that of the latest launch. nargs: the arguments by position of the call that is
    being tuned, None at other times. bench_time: seconds of the latest tuning; AttributeError before the first.
    """

    bench_time: float

    reset_to_zero = _Setting("measuring", "reset_to_zero", list)
    restore_value = _Setting("measuring", "restore_value", list)
    pre_hook = _Setting("measuring", "pre_hook")
    post_hook = _Setting("measuring", "post_hook")
    num_warmups = _Setting("measuring", "warmup")
    num_reps = _Setting("measuring", "rep")
    use_cuda_graph = _Setting("measuring", "use_cuda_graph")
    do_bench = _Setting("measuring", "do_bench")
    perf_model = _Setting("pruning", "model")
    configs_top_k = _Setting("pruning", "top_k")
    early_config_prune = _Setting("pruning", "early")

    def __init__(
        self,
        fn: Any,
        calls: Callable[[Sequence[str]], Calls],
        keys: Sequence[str],
        among: Callable[[Any], Candidates],
        configs: Any,
        options: DecoratorOptions,
    ) -> None:
        """calls, among: what keys and configs amount to; they raise what `autotune.triton` raises."""
        self.fn = fn
        self.base_fn = base_of(fn)
        self.best_config: Any = None
        self.nargs: dict[str, Any] | None = None
        self._calls_by, self._among = calls, among
        made = calls(keys)
        self.arg_names = list(made.names)
        self._raw = made.raw
        self._configs = configs
        self._form = _form(configs)
        self._known: dict[tuple[Any, ...], ResolvedConfig] = {}
        self._resolver = ConfigResolver(fn, made, among(configs), options, self._known.clear)
        self._traced = tracer()
        look_away(TunedKernel.run.__code__)
        self.__name__ = self.base_fn.__name__
        self.__qualname__ = self.base_fn.__qualname__
        self.__module__ = self.base_fn.__module__
        self.__doc__ = self.base_fn.__doc__

    if not TYPE_CHECKING:  # a type checker reports every name that is not defined here

        def __getattr__(self, name: str) -> Any:
            if name == "bench_time" and (seconds := self._resolver.bench_time) is not None:
                return seconds
            instead = ABSENT.get(name)
            raise AttributeError(
                f"a kernel of autotune.triton has no attribute {name!r}" + ("" if instead is None else f": {instead}")
            )

    def __repr__(self) -> str:
        return f"<autotune.triton of {self.__module__}.{self.__qualname__}, {len(self._resolver.cache)} keys known>"

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
        self._renew()
        call = self._resolver.calls.bound(args, kwargs)
        known, candidates = self._resolver.known(call), self._resolver.narrowed(call, grid, True)
        ways = [candidates.values(point) for point in candidates.configs or (candidates.first,)]
        return [
            self.fn.warmup(*args, grid=grid, **kwargs, **way) for way in (ways if known is None else [known.launch])
        ]

    @property
    def configs(self) -> Any:
        """The `triton.Config`s of the list, which may be changed or replaced; of a space, the one to begin with.

        What is known for earlier ones is forgotten. Setting raises what `autotune.triton` raises.
        """
        self._known.clear()  # whoever has the list may change it
        candidates = self._resolver.candidates
        return self._configs if isinstance(self._configs, list) else [candidates.triton_config(candidates.first)]

    @configs.setter
    def configs(self, configs: Any) -> None:
        self._use(configs)

    @property
    def cache(self) -> dict[tuple[Any, ...], Any]:
        """The `triton.Config` of each key that is known. A key that is taken out is tuned anew at its next call, and a
        config that is put there is launched."""
        return self._resolver.cache

    @cache.setter
    def cache(self, cache: Mapping[tuple[Any, ...], Any]) -> None:
        self._resolver.cache = Configs(cache, self._known.clear)
        self._known.clear()

    @property
    def keys(self) -> list[str]:
        """The names of the arguments whose values are a part of the key. When they are set, all is forgotten."""
        return list(self._resolver.calls.keys)

    @keys.setter
    def keys(self, keys: Sequence[str]) -> None:
        made = self._calls_by(keys)
        self._raw = made.raw
        self._resolver.calls = made
        self._forget()

    @property
    def cache_results(self) -> bool:
        """Whether results are kept on disk."""
        return self._resolver.options.searching.cache is not False

    @cache_results.setter
    def cache_results(self, kept: bool) -> None:
        if bool(kept) != self.cache_results:
            options = self._resolver.options
            self._resolver.options = replace(options, searching=replace(options.searching, cache=bool(kept)))

    @property
    def user_defined_pre_hook(self) -> bool:
        """Whether there is a pre_hook."""
        return self.pre_hook is not None

    @property
    def user_defined_post_hook(self) -> bool:
        """Whether there is a post_hook."""
        return self.post_hook is not None

    def prune_configs(self, kwargs: dict[str, Any]) -> list[Any]:
        """The `triton.Config`s that pruning leaves for a call: of `nargs`, and of these arguments by keyword."""
        self._renew()
        given = dict(kwargs)
        grid, warmup = given.pop("grid", None), given.pop("warmup", False)
        call = self._resolver.calls.bound(tuple((self.nargs or {}).values()), given)
        candidates = self._resolver.narrowed(call, grid, warmup)
        return [candidates.triton_config(point) for point in candidates.configs or (candidates.first,)]

    @property
    def configs_timings(self) -> dict[Any, list[float]]:
        """What was measured for the key that was found out last: median, least and greatest milliseconds of each
        `triton.Config`, infinite where it failed."""
        latest = self._resolver.latest
        return {} if latest is None else latest.timings(self._resolver.candidates)

    def _first(
        self, raw: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool
    ) -> Any:
        """A call of arguments not seen before."""
        self._renew()
        call = self._resolver.calls.bound(args, kwargs)
        self._check(call)
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        try:
            known, lasting = self._resolver.find(call, grid, warmup)
            try:
                result = self._launched(known, args, kwargs, grid, warmup)
            except Exception as error:
                if known.origin != "cache" or not failed_at_launch(error):
                    raise
                known = self._resolver.instead_of(known, f"{type(error).__name__}: {error}", call, grid)
                result = self._launched(known, args, kwargs, grid, warmup)
        finally:
            self.nargs = None
        if lasting:
            self._remember(raw, call, known)
        return result

    def _launched(
        self, known: ResolvedConfig, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool
    ) -> Any:
        self.best_config = known.config
        if known.hook is not None:
            known.hook({**dict(zip(self.arg_names, args, strict=False)), **kwargs, **known.launch})
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs, **known.launch)

    def _remember(self, raw: tuple[Any, ...], call: Call, known: ResolvedConfig) -> None:
        if len(self._resolver.cache) >= REMEMBERED and known.origin in ("only", "first"):
            return  # it took no search, and there are as many as there are values
        self._resolver.remember(call, known)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        try:
            self._known[raw] = known
        except TypeError:  # it is led to its key anew each time
            return

    def _renew(self) -> None:
        """Make what there is to choose from anew, where somebody has changed the list of configs."""
        if isinstance(self._configs, list) and _form(self._configs) != self._form:
            self._use(self._configs)

    def _use(self, configs: Any) -> None:
        self._resolver.candidates = self._among(configs)
        self._configs, self._form = configs, _form(configs)
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._resolver.forget()

    def _check(self, call: Call) -> None:
        """Raises PlanError where the call sets what is to be tuned, TypeError where it lacks an argument."""
        provided = self._resolver.candidates.names | heuristic_names(self.fn)
        missing = [name for name in self.arg_names if name not in call.named and name not in provided]
        if missing:
            raise TypeError(f"the call of {self.__name__} lacks {', '.join(missing)}")
        clash = sorted(self._resolver.candidates.names & call.given)
        if clash:
            raise PlanError(
                f"the call of {self.__name__} sets {', '.join(clash)}, which is to be tuned; leave it out of the call,"
                " or out of the configs"
            )


def _form(configs: Any) -> tuple[Any, ...]:
    """What tells a list of configs from what it is when somebody has changed it."""
    if not isinstance(configs, list):
        return ()
    return tuple((id(one), str(one), getattr(one, "pre_hook", None)) for one in configs)
