"""What may be launched: a list of `triton.Config`, all of which are tried, or a space that is searched."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autotune.backends.triton.kernel import LAUNCH_OPTIONS
from autotune.core.config import Config, freeze, token
from autotune.core.errors import PlanError, SpaceError
from autotune.core.keys import root
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, PowerOfTwo
from autotune.core.space import Space
from autotune.core.strategies.random_search import FiniteSearch

OWN = ("grid", "warmup", "self")
"""Names that a launch takes for itself; arguments of such a name can only go by position, and configs go by name."""

LABEL = "config"
"""The one parameter of a space of configs that have no common form."""

VENDOR_OPTIONS = ("waves_per_eu", "matrix_instr_nonkdim", "kpack", "grf_mode", "enable_fp_fusion")
"""Launch options that only some of Triton's backends know."""

RANKED = 1 << 16
"""The most points of a space that a performance model is asked about."""

Pruner = Callable[..., Sequence[Any]]
Model = Callable[..., float]


@dataclass(frozen=True, eq=False)
class Candidates:
    """first: what is launched where nothing may be tuned. listed: the `triton.Config` of each config of a list.

    configs: those to try, all of them; None where the space is searched. seeds: what such a search begins with.
    """

    space: Space
    first: Config
    listed: Mapping[Config, Any]
    configs: tuple[Config, ...] | None = None
    seeds: tuple[Config, ...] = ()

    @property
    def strategy(self) -> FiniteSearch | None:
        """How to go through a list; None where that is left to whoever searches."""
        return None if self.configs is None else FiniteSearch(tuple(dict(config) for config in self.configs))

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.configs) < 2 if self.configs is not None else self.space.size == 1

    @cached_property
    def names(self) -> frozenset[str]:
        """What a config sets."""
        if not self.listed:
            return frozenset(self.space.names)
        return frozenset(name for one in self.listed.values() for name in one.all_kwargs())

    @property
    def hooked(self) -> bool:
        """Whether a config has a hook of its own."""
        return any(getattr(one, "pre_hook", None) is not None for one in self.listed.values())

    def values(self, config: Config) -> dict[str, Any]:
        """What goes to the launch by name."""
        return launch_values(self.listed, config)

    def hook(self, config: Config) -> Callable[[dict[str, Any]], Any] | None:
        """What is to be called before each launch of it."""
        return getattr(self.listed.get(config), "pre_hook", None)

    def triton_config(self, config: Config) -> Any:
        """The config as Triton writes it."""
        given = self.listed.get(config)
        if given is not None:
            return given
        import triton

        options = {name: config[name] for name in LAUNCH_OPTIONS if name in config}
        return triton.Config({n: v for n, v in config.items() if n not in options}, **options)


def launch_values(listed: Mapping[Config, Any], config: Config) -> dict[str, Any]:
    """What goes to the launch of a config by name. listed: as in `Candidates`."""
    given = listed.get(config)
    if given is not None:
        return dict(given.all_kwargs())
    return {name: value for name, value in config.items() if value is not None or name not in LAUNCH_OPTIONS}


def parse_candidates(given: Any, hull: bool, seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Candidates:
    """Of what the decorator was given. names: the kernel's parameters.

    Raises SpaceError or PlanError for what is neither a space nor a list of configs, or does not fit the kernel.
    """
    found = _candidates_of(given, hull, seeds, names)
    if odd := sorted(found.names & {*OWN}):
        raise SpaceError(f"the configs set {', '.join(odd)}, which a launch takes for itself; rename that parameter")
    return found


def _candidates_of(given: Any, hull: bool, seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Candidates:
    if isinstance(given, Space):
        _check_names(given.names, names)
        begun = tuple(given.check(seed, f"seed config {i}") for i, seed in enumerate(seeds))
        first = given.default or (begun[0] if begun else given.decode(given.sample_distinct(root(0), 1))[0])
        return Candidates(given, first, {}, seeds=begun)
    if isinstance(given, Mapping | str) or not isinstance(given, Sequence):
        raise SpaceError(f"{type(given).__name__} is nothing to choose from; give a Space or a list of triton.Config")
    if not given:
        import triton

        given = [triton.Config({})]
    odd = next((one for one in given if not hasattr(one, "all_kwargs")), None)
    if odd is not None:
        raise SpaceError(f"the list of configs has {odd!r:.80}; give triton.Config({{…}}, num_warps=…), or a Space")
    if seeds and not hull:
        raise PlanError("seeds are for a search, and a list of configs is tried as a whole; put them into the list")
    return _hull(list(given)) if hull else _listed(list(given))


def _listed(given: list[Any]) -> Candidates:
    """All of a list, each point once."""
    space, configs = _form(given)
    listed: dict[Config, Any] = {}
    for config, one in zip(configs, given, strict=True):
        listed.setdefault(config, one)
    return Candidates(space, configs[0], listed, tuple(listed))


def _form(given: list[Any]) -> tuple[Space, list[Config]]:
    """The space that a list spans by its own names, or by position where the configs have no common form."""
    rows = [one.all_kwargs() for one in given]
    common = all(list(row) == list(rows[0]) for row in rows) and len({id(one.pre_hook) for one in given}) == 1
    if common:
        try:
            frozen = [{name: freeze(value) for name, value in row.items()} for row in rows]
        except TypeError:
            common = False
    if not common:
        labels = _labels(given)
        return Space({LABEL: Choice(tuple(labels))}, default={LABEL: labels[0]}), [Config({LABEL: n}) for n in labels]
    values = {name: {token(row[name]): row[name] for row in frozen} for name in frozen[0]}
    parameters: dict[str, Parameter] = {name: Choice(tuple(seen.values())) for name, seen in values.items()}
    return Space(parameters, default=frozen[0]), [Config(row) for row in frozen]


def _labels(given: list[Any]) -> list[str]:
    """The configs in words, no two alike."""
    labels: list[str] = []
    for one in given:
        label = ", ".join(f"{name}={value}" for name, value in one.all_kwargs().items())
        hook = getattr(one.pre_hook, "__qualname__", None)
        label += "" if hook is None else f", pre_hook={hook}"
        labels.append(label if label not in labels else f"{label} ({len(labels)})")
    return labels


def _hull(given: list[Any]) -> Candidates:
    """All between the least and the greatest value of each parameter of a list, which the search begins with."""
    space, configs = _form(given)
    if LABEL in space.names and len(space.names) == 1:
        raise SpaceError("the configs have no common form, and so no hull; give them all the same names, or a Space")
    if any(one.pre_hook is not None for one in given):
        raise SpaceError("a config has a pre_hook, which a hull cannot have; give hull=False, or a Space")
    parameters = {name: _between([config[name] for config in configs]) for name in space.names}
    hull = Space(parameters, default=dict(configs[0]))
    return Candidates(hull, configs[0], {}, seeds=tuple(dict.fromkeys(configs)))


def _between(values: list[Any]) -> Parameter:
    """The parameter with all that lies between values."""
    if all(isinstance(value, bool) for value in values) and len(set(values)) == 2:
        return Boolean()
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        if low > 0 and all(value & (value - 1) == 0 for value in values) and high > 2:
            return PowerOfTwo(low, high)
        return Integer(low, high)
    return Choice(tuple({token(value): value for value in values}.values()))


def _check_names(used: Sequence[str], names: Sequence[str]) -> None:
    odd = [name for name in used if name not in (*names, *LAUNCH_OPTIONS, *VENDOR_OPTIONS)]
    if odd:
        raise SpaceError(
            f"the space has {', '.join(map(repr, odd))}, which the kernel has no parameter for and no launch knows;"
            f" its parameters are {', '.join(names)}"
        )


@dataclass(frozen=True, eq=False)
class Pruning:
    """`prune_configs_by` of `triton.autotune`.

    early: gives those of a list of configs that are worth trying. model: the time that a config may take; top_k: how
    many of the fastest by it are tried, or which share of them. Raises PlanError for a top_k that leaves none.
    """

    early: Pruner | None = None
    model: Model | None = None
    top_k: float = 1.0

    def __post_init__(self) -> None:
        top_k = self.top_k
        count = isinstance(top_k, int) and not isinstance(top_k, bool)
        if self.model is not None and not (top_k >= 1 if count else isinstance(top_k, float) and top_k <= 1.0):
            raise PlanError(f"top_k is {top_k!r}; use a whole number of configs, from 1, or a share of at most 1.0")

    def __call__(self, all_of: Candidates, named: Mapping[str, Any], keywords: Mapping[str, Any]) -> Candidates:
        """What is left for these arguments. Raises PlanError where nothing is.

        named: the arguments by name. keywords: what the call gives by keyword, with grid and warmup, as Triton has it.
        """
        left = all_of if self.early is None else _filtered(all_of, self.early, named, keywords)
        return left if self.model is None else self._ranked(left, self.model, {**keywords, **named})

    def _ranked(self, left: Candidates, model: Model, given: Mapping[str, Any]) -> Candidates:
        if isinstance(self.top_k, float) and self.top_k == 1.0:
            return left
        configs = left.configs
        if configs is None:
            count = left.space.count()
            if count is None or count > RANKED:
                raise PlanError(f"perf_model ranks at most {RANKED} points and the space has more; narrow it")
            configs = tuple(left.space.enumerate())
        most = self.top_k if isinstance(self.top_k, int) else max(1, int(len(configs) * self.top_k))
        if len(configs) <= most:
            return left

        def expected(config: Config) -> float:
            values = {**given, **left.values(config)}
            return model(**_taken(model, values))

        kept = sorted(configs, key=expected)[:most]
        if left.listed:
            return _listed([left.listed[config] for config in kept])
        return replace(left, configs=tuple(kept), first=left.first if left.first in kept else kept[0])


def _filtered(all_of: Candidates, early: Pruner, named: Mapping[str, Any], keywords: Mapping[str, Any]) -> Candidates:
    taken = _taken(early, keywords)
    if all_of.listed:
        kept = list(early(list(all_of.listed.values()), dict(named), **taken))
        if not kept:
            raise PlanError("early_config_prune left no config; let it keep at least one")
        return _listed(kept)
    known: dict[Config, bool] = {}

    def worth(config: Mapping[str, Any], /) -> bool:  # each point by itself: a space is not listed
        point = Config(config)
        if point not in known:
            known[point] = bool(list(early([all_of.triton_config(point)], dict(named), **taken)))
        return known[point]

    space = all_of.space
    default = space.default if space.default is not None and worth(space.default) else None
    narrowed = Space(space.parameters, [*space.constraints, worth], default)
    seeds = tuple(seed for seed in all_of.seeds if worth(seed))
    first = all_of.first
    if not worth(first):
        found = narrowed.decode(narrowed.sample_distinct(root(0), 1))
        if not found:
            raise PlanError("early_config_prune left no point of the space; let it keep at least one")
        first = found[0]
    return replace(all_of, space=narrowed, seeds=seeds, first=first)


def _taken(function: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Those keywords that a function takes: all, as Triton gives them, or those that it names."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(keywords)
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return dict(keywords)
    return {name: value for name, value in keywords.items() if name in parameters}
