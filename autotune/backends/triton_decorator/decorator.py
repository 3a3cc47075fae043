"""The decorator of kernels. Triton and torch are not imported before a kernel is decorated and called."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from autotune.backends.triton_decorator.call_key import Buckets, Calls, rounding_rules
from autotune.backends.triton_decorator.configs import Pruning, parse_candidates
from autotune.backends.triton_decorator.launcher import list_functions, python_function, unspecialised_parameters
from autotune.backends.triton_decorator.options import (
    DecoratorOptions,
    Isolation,
    MeasureOptions,
    SearchOptions,
    check_names,
    parse_miss,
    parse_mode,
)
from autotune.backends.triton_decorator.tuned_kernel import TunedKernel
from autotune.core.config import Value
from autotune.core.errors import PlanError
from autotune.core.search.plan import Budget
from autotune.core.space import Space
from autotune.core.strategies.protocol import AnyStrategy
from autotune.shell.evaluators.checking import Tolerance
from autotune.shell.options import PathLike, Progress
from autotune.shell.settings import DecoratorMode, Miss

if TYPE_CHECKING:
    from autotune.shell.cache.cache import Cache


def kernel_decorator(
    configs: Space | Sequence[Any] | PathLike,
    key: Sequence[str] = (),
    prune_configs_by: Mapping[str, Any] | None = None,
    reset_to_zero: Sequence[str] | None = None,
    restore_value: Sequence[str] | None = None,
    pre_hook: Callable[..., Any] | None = None,
    post_hook: Callable[..., Any] | None = None,
    warmup: float | None = None,
    rep: float | None = None,
    use_cuda_graph: bool = False,
    do_bench: Callable[..., Any] | None = None,
    cache_results: bool = True,
    *,
    bucket: Buckets | None = None,
    mode: DecoratorMode | None = None,
    miss: Miss | None = None,
    hull: bool = False,
    seeds: Sequence[Mapping[str, Value]] = (),
    strategy: str | AnyStrategy | None = None,
    effort: str | None = None,
    budget: Budget | float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    journal: PathLike | Literal[False] | None = None,
    progress: Progress = None,
    cache: "Cache | PathLike | None" = None,
    reference: Any = None,
    outputs: Sequence[str] | None = None,
    checker: Callable[[Any, Any], bool | str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    isolation: Isolation | None = None,
) -> Callable[[Any], TunedKernel]:
    """Tune a `@triton.jit` or `@gluon.jit` kernel at its first call for each key, in place of `@triton.autotune`.

    configs: a Space, which is searched, or a list of `triton.Config`, all of which are tried; with `hull`, everything
    that lies between those is searched; or the file of a dispatch table, which `autotune cover --table` wrote. key:
    arguments whose values lead to a tuning of their own, as do dtypes, classes of strides, constants, and the device.
    bucket: how to round whole numbers in the key: "power_of_two", a rising list, a function, or one of these for each
    name.

    prune_configs_by, …, do_bench: as in `triton.autotune`. The decorator finds the tensors that the kernel writes in
    its source, and tunes on copies of them; reset_to_zero and restore_value name those that the source does not tell.
    warmup, rep: milliseconds. cache_results: keep results on disk.

    mode: "tune"; "lookup": never tune; "force": tune anew; "off": the first config. miss: the config of a call that is
    not in the cache and may not be tuned: the "first", or "nearest", that of the nearest shape in the cache. seeds,
    strategy, effort, budget (or seconds), seed, settings, journal, progress, cache: as in `tune`; by default a quick
    effort, 120 seconds, and progress on stderr. Options that are left out are taken from the environment first.
    reference, outputs, checker, rtol, atol: as in `TritonEvaluator`. isolation: "process": timed in a process of its
    own; "in_process": here, as it must be with do_bench and hooks.

    Raises SpaceError or PlanError where the arguments do not fit the kernel; a call raises TuningFailed where no config
    works.
    """
    searching = SearchOptions(
        strategy=strategy,
        effort=effort,
        budget=budget,
        seed=seed,
        settings=settings,
        journal=journal,
        progress=progress,
        cache=(True if cache is None else cache) if cache_results else False,
    )
    pruning, chosen_mode, chosen_miss = _make_pruning(prune_configs_by), parse_mode(mode), parse_miss(miss)

    def decorate(fn: Any) -> TunedKernel:
        _check_kernel(fn)
        function = python_function(fn)
        names = tuple(fn.arg_names)

        def make_calls(key: Sequence[str]) -> Calls:
            keys = check_names("key", key, names)
            return Calls(function, keys, rounding_rules(bucket, key), unspecialised_parameters(fn))

        measuring = MeasureOptions(
            reset_to_zero=check_names("reset_to_zero", reset_to_zero, names),
            restore_value=check_names("restore_value", restore_value, names),
            outputs=check_names("outputs", outputs, names),
            pre_hook=pre_hook,
            post_hook=post_hook,
            warmup=warmup,
            rep=rep,
            use_cuda_graph=use_cuda_graph,
            do_bench=do_bench,
            reference=reference,
            checker=checker,
            tolerance=Tolerance(rtol=rtol, atol=atol),
            isolation=isolation,
        )
        options = DecoratorOptions(
            searching=searching,
            measuring=measuring,
            pruning=pruning,
            mode=chosen_mode,
            miss=chosen_miss,
            bucket=bucket,
            heuristics=list_functions(fn)[:-1],
        )
        parse = partial(parse_candidates, hull=hull, seeds=seeds, names=names)
        return TunedKernel(fn, make_calls, key, parse, configs, options)

    return decorate


def _make_pruning(prune_configs_by: Mapping[str, Any] | None) -> Pruning:
    given = prune_configs_by or {}
    odd = given.keys() - {"early_config_prune", "perf_model", "top_k"}
    if odd:
        raise PlanError(
            f"prune_configs_by has {', '.join(map(repr, sorted(odd)))}; it knows early_config_prune, perf_model, top_k"
        )
    return Pruning(given.get("early_config_prune"), given.get("perf_model"), given.get("top_k", 1.0))


def _check_kernel(fn: Any) -> None:
    """Raises PlanError for an object without the interface of a jitted function, or a kernel that is tuned already."""
    below, tuned = fn, False
    while below is not None and not isinstance(below, FunctionType) and not tuned:
        below, tuned = getattr(below, "fn", None), hasattr(below, "configs")
    jitted = fn is not below and callable(getattr(fn, "run", None)) and hasattr(fn, "arg_names")
    if isinstance(below, FunctionType) and jitted and not tuned:
        return
    name = getattr(fn, "__name__", type(fn).__name__)
    raise PlanError(f"{name} is no @triton.jit kernel; put autotune.triton above @triton.jit, or heuristics of it")
