"""The cache of a decorated kernel, and the key of a call in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.backends.triton_decorator.call_key import Call, Calls, describe_bucket
from autotune.backends.triton_decorator.configs import LABEL, Candidates
from autotune.backends.triton_decorator.options import DecoratorOptions
from autotune.core.errors import CacheError
from autotune.core.identity import identify
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.identity import current_device, processor
from autotune.shell.cache.keys import Device, LooseKey, compute_digest
from autotune.shell.cache.reuse import KeyedCache, Use
from autotune.shell.cache.sources import kernel_digest, replace_known, value_digest
from autotune.shell.settings import Environment
from autotune.shell.warn import warn_user

_caches: dict[Path, Cache] = {}
"""One object for each directory, as it remembers lookups."""


def keyed_cache_of(
    kernel: Any, calls: Calls, call: Call, options: DecoratorOptions, candidates: Candidates, env: Environment, use: Use
) -> KeyedCache | None:
    """The cache and the key for the results of a call; None where they are not kept.

    kernel: the jitted kernel. candidates: before any pruning. Where no key can be made that another process finds, a
    warning says so.
    """
    cache = options.searching.cache
    if cache is False or env.skip_cache:
        return None
    if not isinstance(cache, Cache):
        cache = Cache(None if cache is True else cache)
        cache = _caches.setdefault(cache.directory, cache)
    if cache.mode == "off":
        return None
    try:
        return KeyedCache(cache, _key(kernel, calls, call, options, candidates), use)
    except CacheError as error:
        warn_user(f"{kernel.fn.__name__} keeps its results in this process only: {error}")
        return None


def _key(kernel: Any, calls: Calls, call: Call, options: DecoratorOptions, candidates: Candidates) -> LooseKey:
    function = kernel.fn
    if candidates.space.opaque is not None:
        raise CacheError(f"{candidates.space.opaque}, which is of this process only")
    return LooseKey(
        kernel=f"{function.__module__}.{function.__qualname__}",
        source=kernel_digest(kernel),
        specialization=calls.specialization(call),
        device=device_of(call),
        space=candidates.space.fingerprint,
        extra=_extra(options, candidates),
    )


def device_of(call: Call) -> Device:
    """The device of a call's tensors."""
    kind = getattr(call.device, "type", "cpu")
    return processor() if kind == "cpu" else current_device(call.device.index, kind)


def _extra(options: DecoratorOptions, candidates: Candidates) -> dict[str, str]:
    """Everything else that makes two tunings differ: functions, by their digests, and settings."""
    of, pruning = options.measuring, options.pruning
    parts: Mapping[str, Any] = {
        "heuristics": options.heuristics or None, "reference": of.reference,
        "early_config_prune": pruning.early, "perf_model": pruning.model,
    }  # fmt: skip
    found = {name: value_digest(part) for name, part in parts.items() if part is not None}
    hooks = {"do_bench": of.do_bench, "pre_hook": of.pre_hook, "post_hook": of.post_hook, "checker": of.checker}
    found |= {name: _code_digest(hook) for name, hook in hooks.items() if hook is not None}
    if options.bucket is not None:
        found["bucket"] = describe_bucket(options.bucket)
    if candidates.hooked:
        found["hooks"] = compute_digest([_code_digest(one.pre_hook) for one in candidates.listed.values()])
    if pruning.model is not None:
        found["top_k"] = str(pruning.top_k)
    if of.use_cuda_graph:
        found["cuda_graph"] = "yes"
    if LABEL in candidates.space.names and candidates.listed:
        found["configs"] = compute_digest([str(one) for one in candidates.listed.values()])
    return found


def _code_digest(hook: Any) -> str:
    """The digest of a function that times a run, is called around it, or checks it: its code and its constants.

    Such functions count runs and the like, so that the rest of their state differs at every call; and a result from the
    cache is checked again before it is used.
    """
    return "" if hook is None else identify(getattr(hook, "__func__", hook), replace_known, contents=False).digest
