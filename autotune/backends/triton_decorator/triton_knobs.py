"""Triton's own switches for tunings, `triton.knobs.autotuning`: `print` (TRITON_PRINT_AUTOTUNING=1) and `listener`.

A program that watches `triton.autotune` through them sees the tunings of `autotune.triton` in the same words. Versions
of Triton that lack a switch are left alone.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune.core.outcomes import Failed

if TYPE_CHECKING:
    from autotune.backends.triton_decorator.configs import Candidates
    from autotune.backends.triton_decorator.resolve import ResolvedConfig


def triton_key(
    arg_names: Sequence[str], keys: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The key of a call as Triton makes it: values of the key arguments, then the dtypes of all tensors."""
    given = {**dict(zip(arg_names, args, strict=False)), **kwargs}
    named = {name: value for name, value in given.items() if name in arg_names}
    values = [named[name] for name in keys if name in named]
    return (*values, *(str(value.dtype) for value in named.values() if hasattr(value, "dtype")))


def announce(
    *,
    name: str,
    kernel: Any,
    key: tuple[Any, ...],
    known: "ResolvedConfig",
    candidates: "Candidates",
    seconds: float | None,
) -> None:
    """Print and call what Triton prints and calls once a key has its config from a search or a cache on disk.

    name: of the kernel's function. kernel: the jitted function. key: as `triton_key` makes it. seconds: of the search.
    Errors of the listener are raised, as by Triton.
    """
    module = sys.modules.get("triton.knobs")
    knobs: Any = getattr(module, "autotuning", None)
    searched = known.origin == "tuned"
    listener = getattr(knobs, "listener", None)
    if listener is not None:
        listener(
            fn=kernel,
            key=key,
            best_config=known.config,
            configs_timings=known.timings(candidates),
            duration=seconds if searched else None,
            cache_hit=not searched,
        )
    if searched and getattr(knobs, "print", False):
        for config, outcome in known.measured().items():
            print(f"Autotuning kernel {name} with config {candidates.triton_config(config)}")
            if isinstance(outcome, Failed):
                print(f"Autotuning failed with {outcome.message or outcome.kind}")
        print(
            f"Triton autotuning for function {name},\nwith key as {key},\nfinished after {seconds or 0.0:.2f}s,\n"
            f"best config selected: {known.config};"
        )
