"""Attributes of immutable objects that are computed once, and arrays that readers cannot change."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
A = TypeVar("A", bound=NDArray[Any])


class memo(Generic[T]):
    """An attribute that is computed at its first use and kept in the instance's `__dict__`; an array is read-only.

    It replaces `functools.cached_property`, which before Python 3.12 holds a lock while it computes: a process that
    another thread forks at that time would wait for the lock for ever. Here two threads may both compute the value.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> "memo[T]": ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> "memo[T] | T":
        if instance is None:
            return self
        value = self._compute(instance)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        kept: T = instance.__dict__.setdefault(self._name, value)
        return kept


def read_only(array: A) -> A:
    """A view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
