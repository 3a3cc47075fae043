"""A kernel that is tuned at its first call for a key. Later calls cost one lookup in a dict more than a launch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

from autotune.backends.triton.compiler import expect_launches
from autotune.backends.triton_decorator.call_key import Call, Calls
from autotune.backends.triton_decorator.configs import Candidates
from autotune.backends.triton_decorator.launcher import heuristic_names, jitted_kernel, python_function
from autotune.backends.triton_decorator.options import DecoratorOptions, check_names
from autotune.backends.triton_decorator.report import KernelLog
from autotune.backends.triton_decorator.resolve import ConfigByKey, ConfigResolver, ResolvedConfig, is_launch_failure
from autotune.backends.triton_decorator.triton_knobs import announce, triton_key
from autotune.core.errors import PlanError
from autotune.core.search.result import TuningFailed

_MOST_REMEMBERED = 8192
"""Exact argument values that a kernel remembers at most; beyond, calls are led to their keys anew."""

ABSENT = {
    "check_disk_cache": "results on disk are kept by autotune's own cache; see `autotune cache list`",
    "_bench": "configs are timed by an evaluator; give do_bench to time them yourself",
    "restore_copies": "tensors are copied for a tuning as a whole",
}
"""Attributes of Triton's class that this one does not have, and their substitutes."""


class _Setting:
    """An option of the decorator under the name of the attribute that Triton's class has for it. A new value counts
    from then on; configs that are known stay known, as there."""

    def __init__(self, group: str, name: str, show: Callable[[Any], Any] | None = None) -> None:
        self._group, self._name, self._show = group, name, show

    def __set_name__(self, owner: type, name: str) -> None:
        self.__doc__ = f"As `triton.autotune` has it: `{name}`."

    def __get__(self, kernel: "TunedKernel | None", owner: type) -> Any:
        if kernel is None:
            return self
        value = getattr(getattr(kernel._resolver.options, self._group), self._name)
        return value if self._show is None else self._show(value)

    def __set__(self, kernel: "TunedKernel", value: Any) -> None:
        options = kernel._resolver.options
        if self._name in ("reset_to_zero", "restore_value"):
            value = check_names(self._name, value, kernel.arg_names)
        group: Any = getattr(options, self._group)
        changed: dict[str, Any] = {self._group: replace(group, **{self._name: value})}
        kernel._resolver.options = replace(options, **changed)


class CallWatcher(Protocol):
    """Sees the calls of a kernel with arguments that it has not seen before."""

    def before(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A call whose config is not resolved yet; the kernel's `cache` may be changed."""

    def after(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: ResolvedConfig) -> None:
        """A config that was resolved for a call, and may be remembered."""

    def end(self) -> None:
        """The call is over, whatever came of it."""


class TunedKernel:
    """A kernel under `autotune.triton`. It is launched, warmed up and inspected like one under `triton.autotune`.

    fn: the kernel below. best_config: that of the latest launch. nargs: the arguments by position of the call that is
    being tuned, None at other times. bench_time: seconds of the latest tuning; AttributeError before the first.
    watcher: sees calls with new arguments; None by default.
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
        make_calls: Callable[[Sequence[str]], Calls],
        keys: Sequence[str],
        parse_configs: Callable[[Any], Candidates],
        configs: Any,
        options: DecoratorOptions,
    ) -> None:
        """make_calls, parse_configs: read keys and configs; they raise the errors of `autotune.triton`."""
        self.fn = fn
        self.base_fn = python_function(fn)
        self.best_config: Any = None
        self.nargs: dict[str, Any] | None = None
        self.watcher: CallWatcher | None = None
        self._make_calls, self._parse_configs = make_calls, parse_configs
        calls = make_calls(keys)
        self.arg_names = list(calls.names)
        self._raw_key = calls.raw_key
        self._configs = configs
        self._configs_state = _state_of(configs)
        self._known: dict[tuple[Any, ...], ResolvedConfig] = {}
        self._resolver = ConfigResolver(fn, calls, parse_configs(configs), options, self._known.clear)
        self._is_traced = _tracing_test()
        expect_launches()
        _exclude_from_tracing(TunedKernel.run.__code__)
        self.__name__ = self.base_fn.__name__
        self.__qualname__ = self.base_fn.__qualname__
        self.__module__ = self.base_fn.__module__
        self.__doc__ = self.base_fn.__doc__
        self._log = KernelLog(f"{self.__module__}.{self.__qualname__}")

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
        """Launch with the config for these arguments; the first call resolves it."""
        if self._is_traced():
            _break_graph()
        raw_key = self._raw_key(args, kwargs)
        try:
            known = self._known.get(raw_key)
        except TypeError:  # an argument without a hash
            known = None
        if known is None:
            try:
                return self._first(raw_key, args, kwargs, grid, warmup)
            except TuningFailed as failed:
                raise failed.with_traceback(
                    None
                ) from None  # frames of this library say nothing about kernels that fail
        if known.hook is not None:
            known.hook({**dict(zip(self.arg_names, args, strict=False)), **kwargs, **known.launch})
        self.best_config = known.config
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs, **known.launch)

    def warmup(self, *args: Any, grid: Any = None, **kwargs: Any) -> list[Any]:
        """Compile without launching: the config of these arguments if it is known, else all of the list, or the first
        of the space."""
        self._notice_changes()
        call = self._resolver.calls.bind(args, kwargs)
        known, candidates = self._resolver.find_known(call), self._resolver.prune(call, grid, True)
        points = candidates.configs or (candidates.first,)
        launches = [known.launch] if known is not None else [candidates.values(point) for point in points]
        return [self.fn.warmup(*args, grid=grid, **kwargs, **values) for values in launches]

    @property
    def configs(self) -> Any:
        """The `triton.Config`s of the list, which may be changed or replaced; of a space, the one to begin with.

        A change forgets the configs that are known. Setting it raises the errors of `autotune.triton`.
        """
        self._known.clear()  # the caller may change the list
        candidates = self._resolver.candidates
        if isinstance(self._configs, list):
            return self._configs
        return list(candidates.listed.values()) or [candidates.triton_config(candidates.first)]

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
        self._resolver.cache = ConfigByKey(cache, self._known.clear)
        self._known.clear()

    @property
    def keys(self) -> list[str]:
        """The names of the arguments whose values are a part of the key. Setting it forgets all configs."""
        return list(self._resolver.calls.keys)

    @keys.setter
    def keys(self, keys: Sequence[str]) -> None:
        calls = self._make_calls(keys)
        self._raw_key = calls.raw_key
        self._resolver.calls = calls
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

    def forget_calls(self) -> None:
        """Lead later calls to their keys anew: `cache` may have changed meanwhile."""
        self._known.clear()

    def prune_configs(self, kwargs: dict[str, Any]) -> list[Any]:
        """The `triton.Config`s that pruning leaves for a call: of `nargs`, and of these arguments by keyword."""
        self._notice_changes()
        given = dict(kwargs)
        grid, warmup = given.pop("grid", None), given.pop("warmup", False)
        call = self._resolver.calls.bind(tuple((self.nargs or {}).values()), given)
        candidates = self._resolver.prune(call, grid, warmup)
        return [candidates.triton_config(point) for point in candidates.configs or (candidates.first,)]

    @property
    def configs_timings(self) -> dict[Any, list[float]]:
        """The measurements for the key that was resolved last: median, least and greatest milliseconds of each
        `triton.Config`, infinite where it failed."""
        latest = self._resolver.latest
        return {} if latest is None else latest.timings(self._resolver.candidates)

    def _first(
        self, raw_key: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool
    ) -> Any:
        """A call with arguments not seen before."""
        self._notice_changes()
        call = self._resolver.calls.bind(args, kwargs)
        self._check(call)
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        try:
            if self.watcher is not None:
                self.watcher.before(call, args, kwargs)
            start = perf_counter()
            found = partial(self._announce, args, kwargs)
            known, lasting = self._resolver.resolve(call, grid, warmup, found)
            seconds = perf_counter() - start
            try:
                result = self._launch(known, args, kwargs, grid, warmup)
            except Exception as error:
                if known.origin not in ("cache", "nearest", "table") or not is_launch_failure(error):
                    raise
                start = perf_counter()
                known = self._resolver.replace_failed(known, f"{type(error).__name__}: {error}", call, grid)
                seconds += perf_counter() - start
                if known.origin != "first":
                    found(known)
                result = self._launch(known, args, kwargs, grid, warmup)
        finally:
            self.nargs = None
            if self.watcher is not None:
                self.watcher.end()
        if not self._log.has(call.canonical, known):
            key = self._resolver.calls.describe(call)
            self._log.add(call.canonical, key, known, self._resolver.candidates, seconds)
        if lasting:
            self._remember(raw_key, call, known)
            if self.watcher is not None:
                self.watcher.after(call, args, kwargs, known)
        return result

    def _announce(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: ResolvedConfig) -> None:
        """Tell those that watch the tunings of `triton.autotune`."""
        announce(
            name=self.__name__,
            kernel=jitted_kernel(self.fn),
            key=triton_key(self.arg_names, self.keys, args, kwargs),
            known=known,
            candidates=self._resolver.candidates,
            seconds=self._resolver.bench_time,
        )

    def _launch(
        self, known: ResolvedConfig, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, warmup: bool
    ) -> Any:
        self.best_config = known.config
        if known.hook is not None:
            known.hook({**dict(zip(self.arg_names, args, strict=False)), **kwargs, **known.launch})
        return self.fn.run(*args, grid=grid, warmup=warmup, **kwargs, **known.launch)

    def _remember(self, raw_key: tuple[Any, ...], call: Call, known: ResolvedConfig) -> None:
        if len(self._resolver.cache) >= _MOST_REMEMBERED and known.origin in ("only", "first", "nearest", "table"):
            return  # it took no search, and there are as many as there are values
        self._resolver.remember(call, known)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        with suppress(TypeError):  # an argument without a hash: the call is led to its key anew each time
            self._known[raw_key] = known

    def _notice_changes(self) -> None:
        """Read the list of configs again if the user has changed it."""
        if isinstance(self._configs, list) and _state_of(self._configs) != self._configs_state:
            self._use(self._configs)

    def _use(self, configs: Any) -> None:
        self._resolver.candidates = self._parse_configs(configs)
        self._configs, self._configs_state = configs, _state_of(configs)
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._resolver.forget()

    def _check(self, call: Call) -> None:
        """Raises PlanError where the call sets a tuned parameter, TypeError where it lacks an argument."""
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


def _state_of(configs: Any) -> tuple[Any, ...]:
    """A value that is another one once the user has changed a list of configs."""
    if not isinstance(configs, list):
        return ()
    return tuple((id(one), str(one), getattr(one, "pre_hook", None)) for one in configs)


# `torch.compile` goes around a launch: it leaves its graph there, and does not trace the code that runs then. Nothing
# of its compiler is imported for that, since that would take seconds.


def _tracing_test() -> Callable[[], bool]:
    """A function that tells whether torch is tracing the code that calls it."""
    try:
        from torch.compiler import is_compiling
    except ImportError:
        return _never
    found: Callable[[], bool] = is_compiling
    return found


def _never() -> bool:
    return False


_OUTSIDE = "a kernel of autotune.triton is tuned and launched between two graphs, so fullgraph=True is not possible"


def _break_graph() -> None:
    """To be called where the code is being traced: the caller then does not become a part of the graph. torch shows the
    message with its other graph breaks (TORCH_LOGS=graph_breaks), and in the error where no break is allowed."""
    import torch

    torch._dynamo.graph_break(msg=_OUTSIDE)


def _exclude_from_tracing(code: CodeType) -> None:
    """Have neither this function nor the functions that it calls traced when it is called from outside of a graph."""
    with suppress(ImportError, AttributeError):  # torch's own parts: without them it is slower there, not wrong
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

        set_code_exec_strategy(code, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))
