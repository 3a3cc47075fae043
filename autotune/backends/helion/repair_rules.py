"""Rules read off a repair: "unless this parameter has one of these values, that one is always so". Pure.

What a repair does to random points shows which parameters do not apply when. Only what every probe agrees with, and a
fair number of them speak to, becomes a rule. What a repair takes back at the default, and no longer does once one other
parameter is changed, shows what switches a parameter on, however many such switches there are.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from autotune.core.config import Config, Value, token
from autotune.core.keys import root
from autotune.core.space import Space

PROBES, MORE_PROBES = 200, 120
"""Random points; and more of those that keep to the rules which the first have shown."""

LEAST_SUPPORT = 10
"""Probes that a rule must explain, each of which the repair has changed."""

MOST_VALUES = 16
FEW_VALUES = 6
"""Of how many values all are tried as a switch."""


def find_rules(space: Space, default: Config, repair: Callable[[Config], Config | None]) -> list[str]:
    """Constraints that what the repair makes keeps, and that forbid what it would change.

    repair: what becomes of a point; None where it is refused.
    """
    raw, repaired = _probes(space, PROBES, repair)
    rules = find_switch_rules(space, default, repair, repaired)
    rules |= {name: rule for name, rule in find_reset_rules(space, raw, repaired) if name not in rules}
    found = list(rules.values())
    narrower = Space(space.parameters, found)
    return [*found, *find_exclusions(narrower, *_probes(narrower, MORE_PROBES, repair))]


def _probes(space: Space, count: int, repair: Callable[[Config], Config | None]) -> tuple[list[Config], list[Config]]:
    """Random points, and what becomes of them."""
    pairs = [(config, repair(config)) for config in space.decode(space.sample(root(0), count))]
    good = [(raw, repaired) for raw, repaired in pairs if repaired is not None]
    return [raw for raw, _ in good], [repaired for _, repaired in good]


def find_reset_rules(space: Space, raw: Sequence[Config], repaired: Sequence[Config]) -> Iterator[tuple[str, str]]:
    """Each parameter that another one resets, with its rule. raw, repaired: probes, and what was made of them."""
    for name in space.names:
        changed = [i for i, (a, b) in enumerate(zip(raw, repaired, strict=True)) if token(a[name]) != token(b[name])]
        if len(changed) >= LEAST_SUPPORT and len(_distinct([config[name] for config in repaired])) == 1:
            yield name, _is(name, repaired[0][name])
        elif len(changed) >= LEAST_SUPPORT:
            rule = _rule(space, name, changed, repaired)
            if rule is not None:
                yield name, rule


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


def find_switch_rules(
    space: Space, default: Config, repair: Callable[[Config], Config | None], repaired: Sequence[Config]
) -> dict[str, str]:
    """By parameter: "this is so unless one of those parameters has one of these values", as found at the default.

    repaired: probes that such a rule must hold for.
    """
    changes = {name: _others(space, name, default) for name in space.names}

    def left(changed: dict[str, Value]) -> Config:
        """What the repair leaves where these values differ from the default."""
        return repair(Config({**default, **changed})) or default

    def lasts(name: str, value: Value, config: Config) -> bool:
        return token(config[name]) == token(value)

    lost = {
        name: [v for v in values[:1] if lasts(name, default[name], left({name: v}))] for name, values in changes.items()
    }
    raised = {name: values[0] for name, values in lost.items() if values}
    alone = left(raised)
    switches: dict[str, dict[str, list[Value]]] = {n: {} for n, v in raised.items() if not lasts(n, v, alone)}
    for cause, values in changes.items():
        for value in values:
            config = left({**raised, cause: value})
            for name in switches:
                if name != cause and lasts(name, raised[name], config):
                    switches[name].setdefault(cause, []).append(value)
    return {
        name: " or ".join([_is(name, default[name]), *(f"{cause} in {_group(v)}" for cause, v in found.items())])
        for name, found in switches.items()
        if found and all(lasts(name, default[name], config) or _on(config, found) for config in repaired)
    }


def find_exclusions(space: Space, raw: Sequence[Config], repaired: Sequence[Config]) -> Iterator[str]:
    """Constraints "with this value of one parameter, another has none of those", such as registers beside warps."""
    for name in space.names:
        changed = [i for i, (a, b) in enumerate(zip(raw, repaired, strict=True)) if token(a[name]) != token(b[name])]
        if len(changed) < LEAST_SUPPORT:
            continue
        for cause, parameter in space.parameters.items():
            kept = {(token(config[cause]), token(config[name])) for config in repaired}
            pairs = {(token(raw[i][cause]), token(raw[i][name])) for i in changed}
            if cause == name or parameter.size > MOST_VALUES or pairs & kept:
                continue
            for value in _distinct([raw[i][cause] for i in changed]):
                none = _distinct([raw[i][name] for i in changed if token(raw[i][cause]) == token(value)])
                yield f"{cause} not in {_group([value])} or {name} not in {_group(none)}"
            break


def _others(space: Space, name: str, default: Config) -> list[Value]:
    """Values of a parameter besides its default; three of many."""
    parameter = space.parameters[name]
    ranks = (
        np.arange(parameter.size) if parameter.size <= FEW_VALUES else np.array([0, 1, 2]) * (parameter.size - 1) // 2
    )
    values = parameter.decode(parameter.unrank(ranks))
    return [value for value in values if token(value) != token(default[name])]


def _on(config: Config, switches: dict[str, list[Value]]) -> bool:
    return any(token(config[cause]) == token(value) for cause, values in switches.items() for value in values)


def _distinct(values: Sequence[Value]) -> list[Value]:
    return list({token(value): value for value in values}.values())


def _group(values: Sequence[Value]) -> str:
    return f"({', '.join(map(repr, values))},)"


def _is(name: str, value: Value) -> str:
    return f"{name} is {value!r}" if value is None or isinstance(value, bool) else f"{name} == {value!r}"
