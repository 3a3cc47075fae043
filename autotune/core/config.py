"""A configuration: an immutable mapping from parameter names to plain values."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from autotune.core.arguments import plain, short_repr
from autotune.core.errors import ConfigError

if TYPE_CHECKING:
    from autotune.core.space import Space

Value = Any
"""A hashable JSON value: None, bool, int, float, str, or a tuple of these."""


def freeze(value: Any) -> Value:
    """The value with lists as tuples and numpy scalars as Python's, so that it can be hashed and written.

    Raises TypeError for a value that JSON cannot hold.
    """
    value = plain(value)
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise TypeError(f"{value!r} has half a surrogate pair, which no JSON value has; use a whole character")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError(f"{value} is not a JSON value")
        return value
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    kind = type(value).__name__
    raise TypeError(f"{short_repr(value)} ({kind}) is not a JSON value; use None, bool, int, float, str or a list")


def token(value: Value) -> bytes:
    """The JSON text of a value: equal for equal values of equal types, so that 1, 1.0 and True stay apart."""
    return msgspec.json.encode(value)


def as_config(given: Any, what: str = "the config") -> Mapping[str, Value]:
    """The mapping itself; raises ConfigError for anything else."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} is {short_repr(given)}; give values by name, such as {{'BLOCK': 64}}")
    return given


class Config(Mapping[str, Value]):
    """Names to values, in the order of the space; hashable and comparable by content (1 and True differ).

    >>> Config({"BLOCK": 64, "num_warps": 4})["BLOCK"]
    64
    """

    __slots__ = ("_items", "_token")

    def __init__(self, items: Mapping[str, Value] | None = None, /, **named: Value) -> None:
        given = {**as_config({} if items is None else items), **named}
        for name in given:
            if not isinstance(name, str):
                raise ConfigError(f"a config has the name {short_repr(name)}; names are strings")
        try:
            self._items = {str(name): freeze(value) for name, value in given.items()}
        except TypeError as error:
            raise ConfigError(f"a config holds JSON values only: {error}") from None
        self._token: bytes | None = None

    @classmethod
    def of(cls, frozen: dict[str, Value]) -> "Config":
        """A config around this dict itself, whose values must be frozen already: cheap, for whole populations."""
        config = cls.__new__(cls)
        config._items, config._token = frozen, None
        return config

    def __getitem__(self, name: str) -> Value:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _content(self) -> bytes:
        if self._token is None:
            self._token = token(sorted(self._items.items()))
        return self._token

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Config):
            return self._content() == other._content()
        if isinstance(other, Mapping):
            try:
                return self._content() == Config(other)._content()
            except ConfigError:  # it holds a value that no config can hold
                return False
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        return f"Config({self._items!r})"

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._items.items())

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that depend on the content alone, not on the order, the process or the hash seed."""
        return blake2b(self._content(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """One JSON object, names in order."""
        return msgspec.json.encode(self._items).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Config":
        """The config that `to_json` wrote; raises ConfigError for anything but a JSON object."""
        try:
            return cls(msgspec.json.decode(text, type=dict[str, Any]))
        except (msgspec.DecodeError, TypeError, UnicodeError) as error:
            raise ConfigError(f'not a config in JSON ({error}); write one object such as {{"BLOCK": 64}}') from None

    def minimize(self, space: "Space") -> "Config":
        """The config without the values that equal the default of `space`; `space.complete` puts them back."""
        default = space.default
        if default is None:
            return self
        return Config({n: v for n, v in self._items.items() if n not in default or token(default[n]) != token(v)})

    def replace(self, **changed: Value) -> "Config":
        """The config with some values changed, in the same order."""
        return Config({**self._items, **changed})
