"""The cache of a decorated kernel, and the key of a call in it."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotune.backends.triton_decorator.call_key import Call, Calls, described
from autotune.backends.triton_decorator.configs import LABEL, Candidates
from autotune.backends.triton_decorator.options import DecoratorOptions
from autotune.core.errors import CacheError
from autotune.core.identity import identify
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.identity import current_device, processor
from autotune.shell.cache.keys import LooseKey, compute_digest
from autotune.shell.cache.reuse import KeyedCache, Use
from autotune.shell.cache.sources import kernel_digest, replace_known, value_digest
from autotune.shell.settings import Environment

if TYPE_CHECKING:
    from pathlib import Path

_caches: dict["Path", Cache] = {}


def memory_of(
    kernel: Any, calls: Calls, call: Call, options: DecoratorOptions, candidates: Candidates, env: Environment, use: Use
) -> KeyedCache | None:
    """Where the results of a call are kept, and under which key; None where they are not to be.

    kernel: what `@triton.jit` made. candidates: before any pruning. Where no key can be made that another process
    finds, there is a warning.
    """
    cache = options.searching.cache
    if cache is False or env.skip_cache:
        return None
    opened = cache if isinstance(cache, Cache) else _opened(Cache(None if cache is True else cache))
    if opened.mode == "off":
        return None
    try:
        return KeyedCache(opened, _key(kernel, calls, call, options, candidates), use)
    except CacheError as error:
        warnings.warn(f"{kernel.fn.__name__} keeps its results in this process only: {error}", stacklevel=2)
        return None


def _opened(cache: Cache) -> Cache:
    """One object for each directory: it remembers what was looked up."""
    return _caches.setdefault(cache.directory, cache)


def _key(kernel: Any, calls: Calls, call: Call, options: DecoratorOptions, candidates: Candidates) -> LooseKey:
    function = kernel.fn
    if candidates.space.opaque is not None:
        raise CacheError(f"{candidates.space.opaque}, which is of this process only")
    on_gpu = getattr(call.device, "type", "cpu") != "cpu"
    device = current_device(call.device.index) if on_gpu else processor()
    return LooseKey(
        f"{function.__module__}.{function.__qualname__}", kernel_digest(kernel), calls.specialization(call), device,
        candidates.space.fingerprint, _extra(options, candidates),
    )  # fmt: skip


def _extra(options: DecoratorOptions, candidates: Candidates) -> dict[str, str]:
    """Whatever else makes two tunings two: functions, of which a key holds digests."""
    of, pruning = options.measuring, options.pruning
    parts: Mapping[str, Any] = {
        "heuristics": options.heuristics or None, "reference": of.reference,
        "early_config_prune": pruning.early, "perf_model": pruning.model,
    }  # fmt: skip
    found = {name: value_digest(part) for name, part in parts.items() if part is not None}
    for name in ("do_bench", "pre_hook", "post_hook", "checker"):
        if (instrument := getattr(of, name)) is not None:
            found[name] = _instrument(instrument)
    if options.bucket is not None:
        found["bucket"] = described(options.bucket)
    if candidates.hooked:
        found["hooks"] = compute_digest([_instrument(one.pre_hook) for one in candidates.listed.values()])
    if pruning.model is not None:
        found["top_k"] = str(pruning.top_k)
    if of.use_cuda_graph:
        found["cuda_graph"] = "yes"
    if LABEL in candidates.space.names and candidates.listed:
        found["configs"] = compute_digest([str(one) for one in candidates.listed.values()])
    return found


def _instrument(function: Any) -> str:
    """The digest of what times a run, is called around it, or judges it: its code and the values that cannot change.

    Such functions count runs and the like, so that all else is another thing at every call; and an answer of the cache
    is judged anew before it is believed.
    """
    return (
        ""
        if function is None
        else identify(getattr(function, "__func__", function), replace_known, contents=False).digest
    )
