"""Constraints found by probing a repair, such as "unless this parameter has one of these values, that one is reset".
Pure.

The effects of a repair on random points show which parameters do not apply when. A rule must agree with every probe and
explain a fair number of them. A change that the repair undoes at the default, and no longer undoes once another
parameter is changed, shows the switches of a parameter, however many there are.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from autotune.core.config import Config, Value, token
from autotune.core.keys import root
from autotune.core.space import Space

_PROBES, _MORE_PROBES = 200, 120
"""Random points; and random points that keep the rules of the first ones. Enough for a rule that holds for a twentieth
of the space to be seen ten times."""

_SUPPORT = 10
"""Probes changed by the repair that a rule must explain, so that chance repaired_wanted makes none."""

_MOST_VALUES = 16
"""Values of a parameter that may be the cause of a rule: with more, each is seen too rarely."""

_FEW_VALUES = 6
"""Values of a parameter that are all tried as a switch; of more, three are."""


def find_rules(space: Space, default: Config, repair: Callable[[Config], Config | None]) -> list[str]:
    """Constraints that repaired points keep, and that exclude points which the repair would change.

    repair: returns the repaired point, or None for a point that it refuses.
    """
    raw, repaired = _probes(space, _PROBES, repair)
    rules = find_switch_rules(space, default, repair, repaired)
    rules |= {name: rule for name, rule in find_reset_rules(space, raw, repaired) if name not in rules}
    found = list(rules.values())
    narrower = Space(space.parameters, found)
    return [*found, *find_exclusions(narrower, *_probes(narrower, _MORE_PROBES, repair))]


def _probes(space: Space, count: int, repair: Callable[[Config], Config | None]) -> tuple[list[Config], list[Config]]:
    """Random points, and the same points repaired."""
    pairs = [(config, repair(config)) for config in space.decode(space.sample(root(0), count))]
    good = [(raw, repaired) for raw, repaired in pairs if repaired is not None]
    return [raw for raw, _ in good], [repaired for _, repaired in good]


def find_reset_rules(space: Space, raw: Sequence[Config], repaired: Sequence[Config]) -> Iterator[tuple[str, str]]:
    """Each parameter that another one resets, with its rule. raw, repaired: the probes before and after the repair."""
    for name in space.names:
        changed = [i for i, (a, b) in enumerate(zip(raw, repaired, strict=True)) if token(a[name]) != token(b[name])]
        if len(changed) >= _SUPPORT and len(_distinct([config[name] for config in repaired])) == 1:
            yield name, _equality(name, repaired[0][name])
        elif len(changed) >= _SUPPORT:
            rule = _rule(space, name, changed, repaired)
            if rule is not None:
                yield name, rule


def _rule(space: Space, name: str, changed: Sequence[int], repaired: Sequence[Config]) -> str | None:
    """The rule that resets one parameter to one value whenever another one, the cause, has one of a few values."""
    reset = repaired[changed[0]][name]
    if any(token(repaired[i][name]) != token(reset) for i in changed):
        return None
    for cause, parameter in space.parameters.items():
        if cause == name or parameter.size > _MOST_VALUES:
            continue
        values = _distinct([repaired[i][cause] for i in changed])
        tokens = {token(value) for value in values}
        held = [config for config in repaired if token(config[cause]) in tokens]
        always = all(token(config[name]) == token(reset) for config in held)
        if always and len(values) < parameter.size and len(held) < len(repaired):
            return f"{_equality(name, reset)} or {cause} not in {_tuple_text(values)}"
    return None


def find_switch_rules(
    space: Space, default: Config, repair: Callable[[Config], Config | None], repaired: Sequence[Config]
) -> dict[str, str]:
    """The rules of switches by parameter, found at the default: "it has its default unless a switch has one of these
    values".

    repaired: probes for which a rule must hold.
    """
    changes = {name: _others(space, name, default) for name in space.names}

    def repaired_with(changed: dict[str, Value]) -> Config:
        return repair(Config({**default, **changed})) or default

    def has_value(name: str, value: Value, config: Config) -> bool:
        return token(config[name]) == token(value)

    undone = {
        name: [v for v in values[:1] if has_value(name, default[name], repaired_with({name: v}))]
        for name, values in changes.items()
    }
    wanted = {name: values[0] for name, values in undone.items() if values}
    repaired_wanted = repaired_with(wanted)
    switches: dict[str, dict[str, list[Value]]] = {
        n: {} for n, v in wanted.items() if not has_value(n, v, repaired_wanted)
    }
    for cause, values in changes.items():
        for value in values:
            config = repaired_with({**wanted, cause: value})
            for name in switches:
                if name != cause and has_value(name, wanted[name], config):
                    switches[name].setdefault(cause, []).append(value)
    return {
        name: " or ".join(
            [_equality(name, default[name]), *(f"{cause} in {_tuple_text(v)}" for cause, v in found.items())]
        )
        for name, found in switches.items()
        if found and all(has_value(name, default[name], config) or _switched_on(config, found) for config in repaired)
    }


def find_exclusions(space: Space, raw: Sequence[Config], repaired: Sequence[Config]) -> Iterator[str]:
    """Constraints "with this value of one parameter, another one has none of those", such as registers beside warps."""
    for name in space.names:
        changed = [i for i, (a, b) in enumerate(zip(raw, repaired, strict=True)) if token(a[name]) != token(b[name])]
        if len(changed) < _SUPPORT:
            continue
        for cause, parameter in space.parameters.items():
            kept = {(token(config[cause]), token(config[name])) for config in repaired}
            pairs = {(token(raw[i][cause]), token(raw[i][name])) for i in changed}
            if cause == name or parameter.size > _MOST_VALUES or pairs & kept:
                continue
            for value in _distinct([raw[i][cause] for i in changed]):
                none = _distinct([raw[i][name] for i in changed if token(raw[i][cause]) == token(value)])
                yield f"{cause} not in {_tuple_text([value])} or {name} not in {_tuple_text(none)}"
            break


def _others(space: Space, name: str, default: Config) -> list[Value]:
    """Values of a parameter other than its default; at most three if there are many."""
    parameter = space.parameters[name]
    ranks = (
        np.arange(parameter.size) if parameter.size <= _FEW_VALUES else np.array([0, 1, 2]) * (parameter.size - 1) // 2
    )
    values = parameter.decode(parameter.unrank(ranks))
    return [value for value in values if token(value) != token(default[name])]


def _switched_on(config: Config, switches: dict[str, list[Value]]) -> bool:
    return any(token(config[cause]) == token(value) for cause, values in switches.items() for value in values)


def _distinct(values: Sequence[Value]) -> list[Value]:
    return list({token(value): value for value in values}.values())


def _tuple_text(values: Sequence[Value]) -> str:
    return f"({', '.join(map(repr, values))},)"


def _equality(name: str, value: Value) -> str:
    return f"{name} is {value!r}" if value is None or isinstance(value, bool) else f"{name} == {value!r}"
