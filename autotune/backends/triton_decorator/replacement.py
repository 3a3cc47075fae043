"""A tuned kernel in the place of one of Triton's autotuners: made from its settings, and kept in step with its cache.

Libraries derive classes of their own from `triton.runtime.autotuner.Autotuner`, some with a cache of tuned configs that
they put into `cache` before they call the `run` of the base class (flash-linear-attention does). Such an entry is
launched, as Triton would. The results of a tuning are written into the same attributes as Triton writes them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict

from autotune.backends.triton_decorator.call_key import Bucket, Call
from autotune.backends.triton_decorator.decorator import kernel_decorator
from autotune.backends.triton_decorator.options import Isolation
from autotune.backends.triton_decorator.resolve import ConfigByKey, ResolvedConfig
from autotune.backends.triton_decorator.triton_knobs import triton_key
from autotune.backends.triton_decorator.tuned_kernel import TunedKernel
from autotune.core.errors import PlanError, SpaceError
from autotune.core.identity import identify
from autotune.core.search.plan import Budget
from autotune.core.strategies.protocol import AnyStrategy
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.sources import replace_known
from autotune.shell.options import PathLike, Progress
from autotune.shell.settings import DecoratorMode, Miss


class KernelOptions(TypedDict, total=False):
    """The options of the decorator that have a meaning for all kernels alike."""

    bucket: Bucket | None
    mode: DecoratorMode | None
    miss: Miss | None
    hull: bool
    strategy: str | AnyStrategy | None
    effort: str | None
    budget: Budget | float | None
    seed: int | None
    settings: Mapping[str, Any] | None
    progress: Progress
    cache: Cache | PathLike | None
    isolation: Isolation | None


class Replacement:
    """Runs in the place of one autotuner.

    tuned: the kernel. configs, cache: the objects that the autotuner had when this was made; with others it is made
    anew. note: a sentence about options that the kernel cannot have, or None.
    """

    def __init__(self, autotuner: Any, base: type, options: KernelOptions) -> None:
        """base: Triton's class. Raises the errors of the decorator for an autotuner that it cannot stand for."""
        self._autotuner = autotuner
        self.note: str | None = None
        self.configs = autotuner.configs
        self.tuned = self._make(base, options)
        self.tuned.watcher = self
        self._ours: dict[tuple[Any, ...], dict[tuple[Any, ...], Any]] = {}
        """The configs that were found here: of each key as Triton makes it, by our finer keys."""
        self._changed = False
        autotuner.cache = self.cache = ConfigByKey(autotuner.cache, self._notice_change)

    def __reduce__(self) -> tuple[Any, ...]:
        """In a copy, and in other processes, the autotuner runs as Triton's."""
        return type(None), ()

    def withdraw(self) -> None:
        """Give the autotuner its cache back, without the configs that were found here."""
        own = {key: set(map(id, configs.values())) for key, configs in self._ours.items()}
        kept = {key: config for key, config in self.cache.items() if id(config) not in own.get(key, ())}
        if self._autotuner.cache is self.cache:
            self._autotuner.cache = kept

    def before(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take over the configs that others have put into the autotuner's cache, or taken out of it."""
        self._autotuner.nargs = dict(self.tuned.nargs or {})
        key = self._key(args, kwargs)
        if self._changed:
            self._changed = False
            self._forget_removed()
        with suppress(TypeError):  # an argument without a hash, for which Triton has no key
            given = self.cache.get(key)
            known = self.tuned.cache.get(call.canonical)
            if given is not None and given is not known and not self._found_here(key, given):
                self.tuned.cache[call.canonical] = given

    def after(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: ResolvedConfig) -> None:
        """Write a result where Triton writes it."""
        autotuner = self._autotuner
        if known.origin == "tuned":
            autotuner.bench_time = self.tuned.bench_time
            autotuner.configs_timings = self.tuned.configs_timings
        if known.origin in ("tuned", "cache"):
            with suppress(TypeError):
                key = self._key(args, kwargs)
                self._ours.setdefault(key, {})[call.canonical] = known.config
                dict.__setitem__(self.cache, key, known.config)  # no change by others

    def end(self) -> None:
        """Triton has the arguments of a call only while it is tuned."""
        self._autotuner.nargs = None

    def _key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        return triton_key(self._autotuner.arg_names, self._autotuner.keys, args, kwargs)

    def _found_here(self, key: tuple[Any, ...], config: Any) -> bool:
        return any(config is own for own in self._ours.get(key, {}).values())

    def _notice_change(self) -> None:
        self._changed = True
        self.tuned.forget_calls()

    def _forget_removed(self) -> None:
        """A key that was taken out of the autotuner's cache is tuned anew."""
        for key in [key for key in self._ours if key not in self.cache]:
            for canonical in self._ours.pop(key):
                self.tuned.cache.pop(canonical, None)

    def _make(self, base: type, options: KernelOptions) -> TunedKernel:
        given = read_settings(self._autotuner, base)
        hull = options.get("hull", False)
        if hull and overrides(self._autotuner, base, "prune_configs"):
            hull, self.note = False, "its class prunes by a method of its own"
        listed: KernelOptions = {**options, "hull": False}
        if hull:
            try:
                return kernel_decorator(**given, **options)(self._autotuner.fn)
            except SpaceError as error:
                self.note = str(error)
        return kernel_decorator(**given, **listed)(self._autotuner.fn)


def overrides(autotuner: Any, base: type, name: str) -> bool:
    """Whether the class of an autotuner has a method or property of its own in the place of Triton's."""
    return getattr(type(autotuner), name, None) is not getattr(base, name, None)


def read_settings(autotuner: Any, base: type) -> dict[str, Any]:
    """The arguments of `triton.autotune` that an autotuner was made with, or has been given since.

    base: Triton's class. Raises PlanError for a class that times configs in a way of its own, and for a kernel without
    the interface of a jitted function.
    """
    missing = [name for name in ("run", "arg_names", "fn") if not hasattr(autotuner.fn, name)]
    if missing:
        raise PlanError(
            f"{type(autotuner.fn).__qualname__} below it has no {', '.join(missing)}, as jitted functions do"
        )
    if overrides(autotuner, base, "_bench"):
        raise PlanError(f"{type(autotuner).__qualname__} times configs by a method of its own, _bench")
    names, own = autotuner.arg_names, vars(autotuner)
    by_triton = any(own.get(name) for name in ("num_warmups", "num_reps", "use_cuda_graph"))
    timer = autotuner.do_bench if overrides(autotuner, base, "do_bench") else own.get("_do_bench")
    prune: dict[str, Any] = {"early_config_prune": autotuner.early_config_prune}
    if overrides(autotuner, base, "prune_configs"):
        prune = {"early_config_prune": _PruningMethod(autotuner)}
    elif autotuner.perf_model is not None:
        prune |= {"perf_model": autotuner.perf_model, "top_k": autotuner.configs_top_k}
    return {
        "configs": autotuner.configs,
        "key": [name for name in autotuner.keys if name in names],  # before 3.7 Triton ignored others
        "prune_configs_by": prune,
        "reset_to_zero": autotuner.reset_to_zero,
        "restore_value": autotuner.restore_value,
        "pre_hook": _hook(autotuner, "pre_hook"),
        "post_hook": _hook(autotuner, "post_hook"),
        "warmup": own.get("num_warmups"),
        "rep": own.get("num_reps"),
        "use_cuda_graph": bool(own.get("use_cuda_graph")),
        "do_bench": None if by_triton else timer,
    }


def _hook(autotuner: Any, name: str) -> Callable[..., Any] | None:
    """The hook that a user gave. Hooks that a class makes when it is constructed reset and restore tensors, which the
    decorator does by itself."""
    hook = getattr(autotuner, name)
    if getattr(autotuner, f"user_defined_{name}", False):
        return hook  # type: ignore[no-any-return]
    constructors = {f"{kind.__qualname__}.__init__.<locals>" for kind in type(autotuner).__mro__}
    return None if getattr(hook, "__qualname__", "").rpartition(".")[0] in constructors else hook


class _PruningMethod:
    """The pruning method of a derived class, as an `early_config_prune`."""

    def __init__(self, autotuner: Any) -> None:
        self._autotuner = autotuner

    def __call__(self, configs: Sequence[Any], named: Mapping[str, Any], **keywords: Any) -> Sequence[Any]:
        self._autotuner.nargs = dict(named)
        kept: Sequence[Any] = self._autotuner.prune_configs(keywords)
        return kept

    @property
    def cache_key(self) -> str:
        """The digest of the method's code stands for it in keys on disk: the autotuner itself has none."""
        return identify(type(self._autotuner).prune_configs, replace_known, contents=False).digest
