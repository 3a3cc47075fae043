"""One fragment of Helion's config spec as a parameter, and the two ways between their values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helion.autotuner.config_fragment import (
    BaseIntegerFragment,
    BooleanFragment,
    Category,
    ConfigSpecFragment,
    EnumFragment,
    NumThreadsFragment,
    PermutationFragment,
    PowerOfTwoFragment,
)

from autotune.core.config import Value, freeze, token
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, Permutation, PowerOfTwo

ROLES = {Category.BLOCK_SIZE: "block_size", Category.NUM_WARPS: "num_warps"}


@dataclass(frozen=True)
class Field:
    """parameter: None where there is nothing to choose. theirs, ours: a value in Helion's form, and in ours."""

    parameter: Parameter | None
    theirs: Callable[[Value], Any]
    ours: Callable[[Any], Value]


def field_of(fragment: ConfigSpecFragment) -> Field:
    """The field for a fragment that is not a list. One of a kind that is not known is left as it is."""
    role = ROLES.get(fragment.category())
    match fragment:
        case BooleanFragment():
            return _plain(Boolean())
        case PermutationFragment(length=length):
            return Field(Permutation(length) if length > 1 else None, list, tuple)
        case PowerOfTwoFragment(low=low, high=high):
            return _plain(PowerOfTwo(low, high, role=role) if low < high else None)
        case BaseIntegerFragment(low=low, high=high):
            return _plain(Integer(low, high, role=role) if low < high else None)
        case NumThreadsFragment():
            return _labelled(tuple(fragment.search_values() or (0,)), ordered=True)
        case EnumFragment():
            return _labelled(tuple(fragment.search_values() or ()))
    return _labelled(tuple(fragment.search_values() or ()))


def _plain(parameter: Parameter | None) -> Field:
    return Field(parameter, _same, _same)


def _same(value: Any) -> Any:
    return value


def _labelled(values: tuple[Any, ...], ordered: bool = False) -> Field:
    """A choice of values that stand for themselves, or by their text where JSON cannot hold them."""
    by_label = {token(_label(value)): value for value in values}
    labels = tuple({token(_label(value)): _label(value) for value in values}.values())

    def theirs(label: Value) -> Any:
        return by_label[token(label)]

    return Field(Choice(labels, ordered=ordered) if len(labels) > 1 else None, theirs, _label)


def _label(value: Any) -> Value:
    try:
        return freeze(value)
    except TypeError:
        return repr(value)
