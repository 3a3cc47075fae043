"""The cache of a decorated kernel, and the key of a call in it."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotune.core.errors import CacheError
from autotune.integrations.triton.calls import Call, Calls
from autotune.integrations.triton.candidates import LABEL, Candidates
from autotune.integrations.triton.wishes import Wishes
from autotune.shell.cache.devices import current_device, processor
from autotune.shell.cache.keys import LooseKey, digest_of
from autotune.shell.cache.layers import Cache
from autotune.shell.cache.sources import kernel_digest, source_digest
from autotune.shell.cache.specializing import tensor_of
from autotune.shell.cache.use import Memory, Use
from autotune.shell.settings import Environment

if TYPE_CHECKING:
    from pathlib import Path

_caches: dict["Path", Cache] = {}


def memory_of(
    kernel: Any, calls: Calls, call: Call, wishes: Wishes, candidates: Candidates, env: Environment, use: Use
) -> Memory | None:
    """Where the results of a call are kept, and under which key; None where they are not to be.

    kernel: what `@triton.jit` made. candidates: before any pruning.
    """
    cache = wishes.searching.cache
    if cache is False or env.skip_cache:
        return None
    opened = cache if isinstance(cache, Cache) else _opened(Cache(None if cache is True else cache))
    return None if opened.mode == "off" else Memory(opened, _key(kernel, calls, call, wishes, candidates), use)


def _opened(cache: Cache) -> Cache:
    """One object for each directory: it remembers what was looked up."""
    return _caches.setdefault(cache.directory, cache)


def _key(kernel: Any, calls: Calls, call: Call, wishes: Wishes, candidates: Candidates) -> LooseKey:
    function = kernel.fn
    on_gpu = getattr(call.device, "type", "cpu") != "cpu"
    device = current_device(call.device.index) if on_gpu else processor()
    return LooseKey(
        f"{function.__module__}.{function.__qualname__}", kernel_digest(kernel), calls.specialization(call), device,
        candidates.space.fingerprint, _extra(wishes, candidates),
    )  # fmt: skip


def _extra(wishes: Wishes, candidates: Candidates) -> dict[str, str]:
    """Whatever else makes two tunings two: functions, of which a key holds digests."""
    of, pruning = wishes.measuring, wishes.pruning
    parts: Mapping[str, Any] = {
        "bucket": wishes.bucketed, "heuristics": wishes.heuristics, "do_bench": of.do_bench, "pre_hook": of.pre_hook,
        "post_hook": of.post_hook, "reference": of.reference, "checker": of.checker,
        "early_config_prune": None if pruning is None else pruning.early,
        "perf_model": None if pruning is None else pruning.model,
    }  # fmt: skip
    found = {name: _digest(part) for name, part in parts.items() if part}
    hooks = [_digest(hook) for one in candidates.listed.values() if (hook := one.pre_hook) is not None]
    if hooks:
        found["hooks"] = digest_of(hooks)
    if pruning is not None and pruning.model is not None:
        found["top_k"] = str(pruning.top_k)
    if of.use_cuda_graph:
        found["cuda_graph"] = "yes"
    if LABEL in candidates.space.names and candidates.listed:
        found["configs"] = digest_of([str(one) for one in candidates.listed.values()])
    return found


def _digest(part: Any) -> str:
    """A digest of a function or of expected output; a text as it is."""
    if isinstance(part, str):
        return part
    part = getattr(part, "__func__", part)  # not what the object holds, which may change from call to call
    if isinstance(part, tuple):
        return digest_of([_digest(one) for one in part])
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(part, torch.Tensor):
        return digest_of([str(tensor_of(part)), str(part.double().sum().item()) if part.numel() else ""])
    try:
        return source_digest(part)
    except CacheError:
        return digest_of(repr(type(part)))
