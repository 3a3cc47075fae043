"""Rules read off a repair: "unless this parameter has one of these values, that one is always so". Pure.

What a repair does to random points shows which parameters do not apply when. Only what every probe agrees with, and a
fair number of them speak to, becomes a rule.
"""

from collections.abc import Iterator, Sequence

from autotune.core.config import Config, Value, token
from autotune.core.space import Space

LEAST_SUPPORT = 12
"""Probes that a rule must explain, each of which the repair has changed."""

MOST_VALUES = 16


def learned(space: Space, raw: Sequence[Config], repaired: Sequence[Config]) -> Iterator[str]:
    """Constraints that the repaired points keep and that explain what was changed in the raw ones.

    raw, repaired: probes, and what the repair made of each.
    """
    for name in space.names:
        changed = [i for i, (a, b) in enumerate(zip(raw, repaired, strict=True)) if token(a[name]) != token(b[name])]
        if len(changed) >= LEAST_SUPPORT and len(_distinct([config[name] for config in repaired])) == 1:
            yield _is(name, repaired[0][name])
        elif len(changed) >= LEAST_SUPPORT:
            rule = _rule(space, name, changed, repaired)
            if rule is not None:
                yield rule


def _rule(space: Space, name: str, changed: Sequence[int], repaired: Sequence[Config]) -> str | None:
    """The rule on one parameter: reset to one value whenever another one, the cause, has one of a few values."""
    reset = repaired[changed[0]][name]
    if any(token(repaired[i][name]) != token(reset) for i in changed):
        return None
    for cause, parameter in space.parameters.items():
        if cause == name or parameter.size > MOST_VALUES:
            continue
        values = _distinct([repaired[i][cause] for i in changed])
        tokens = {token(value) for value in values}
        held = [config for config in repaired if token(config[cause]) in tokens]
        always = all(token(config[name]) == token(reset) for config in held)
        if always and len(values) < parameter.size and len(held) < len(repaired):
            return f"{_is(name, reset)} or {cause} not in {_group(values)}"
    return None


def _distinct(values: Sequence[Value]) -> list[Value]:
    return list({token(value): value for value in values}.values())


def _group(values: Sequence[Value]) -> str:
    return f"({', '.join(map(repr, values))},)"


def _is(name: str, value: Value) -> str:
    return f"{name} is {value!r}" if value is None or isinstance(value, bool) else f"{name} == {value!r}"
