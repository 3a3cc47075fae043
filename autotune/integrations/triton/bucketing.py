"""Which values of a key argument share one tuning."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from autotune.core.errors import PlanError
from autotune.shell.cache.sources import source_digest

Bucket = Literal["power_of_two"] | Sequence[int] | Callable[[Any], Any]
Buckets = Bucket | Mapping[str, Bucket]

Rule = Callable[[Any], Any]


def rules_of(bucket: Buckets | None, keys: Sequence[str]) -> dict[str, Rule]:
    """How to round each key argument that is to be rounded, by its name. Raises PlanError for what is no bucket."""
    if bucket is None:
        return {}
    if not isinstance(bucket, Mapping):
        return {name: _rule(bucket) for name in keys}
    odd = [name for name in bucket if name not in keys]
    if odd:
        raise PlanError(f"bucket has {', '.join(map(repr, odd))}, which key does not name; add it to key")
    return {name: _rule(one) for name, one in bucket.items()}


def _rule(bucket: Bucket) -> Rule:
    if bucket == "power_of_two":
        return power_of_two
    if callable(bucket):
        return bucket
    edges = list(bucket) if isinstance(bucket, Sequence) and not isinstance(bucket, str) else []
    if not edges or edges != sorted(edges) or not all(isinstance(edge, int) for edge in edges):
        raise PlanError(
            f"{bucket!r} is no bucket; use 'power_of_two', a rising list of whole numbers, or a function of the value"
        )
    return lambda value: _edge(edges, value)


def power_of_two(value: Any) -> Any:
    """The least power of two that is not below a whole number; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return 1 << (value - 1).bit_length() if value > 0 else value


def _edge(edges: list[int], value: Any) -> Any:
    """The first edge that is not below the value; what lies above all edges belongs to the last."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return edges[min(bisect_left(edges, value), len(edges) - 1)]


def described(bucket: Buckets) -> str:
    """A bucket in the words of a cache key: a function by the digest of all that it reaches.

    Raises CacheError for a function that reaches an object of which no digest can be made.
    """
    if isinstance(bucket, Mapping):
        return "; ".join(f"{name}: {described(one)}" for name, one in bucket.items())
    if callable(bucket):
        return f"function {source_digest(bucket)}"
    return bucket if isinstance(bucket, str) else str([*map(int, bucket)])
