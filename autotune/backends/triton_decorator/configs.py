"""The candidates of a kernel: a list of `triton.Config`, all of which are tried, or a space that is searched."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autotune.backends.triton.launch_options import CONFIG_OPTIONS, launch_options
from autotune.core.config import Config, freeze, token
from autotune.core.errors import PlanError, SpaceError
from autotune.core.keys import root
from autotune.core.parameters import Boolean, Choice, Integer, Parameter, PowerOfTwo
from autotune.core.space import Space
from autotune.core.strategies.random_search import FiniteSearch

if TYPE_CHECKING:
    from autotune.shell.dispatch_table import DispatchTable

_LAUNCH_NAMES = ("grid", "warmup", "self")
"""Names that a launch takes for itself. Such an argument can only go by position, and configs go by name."""

LABEL = "config"
"""The one parameter of a space of configs that have no common form."""

_MOST_RANKED = 1 << 16
"""The most points of a space that a performance model ranks: it is a Python function, called for each."""

Pruner = Callable[..., Sequence[Any]]
Model = Callable[..., float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """The configs among which a tuning chooses.

    first: the config where nothing may be tuned. listed: the `triton.Config` of each config of a list. configs: all
    configs to try; None where the space is searched. left_out: the configs of the list that need not be tried. seeds:
    the configs with which a search of the space begins. table: the dispatch table whose configs the list is.
    """

    space: Space
    first: Config
    listed: Mapping[Config, Any]
    configs: tuple[Config, ...] | None = None
    left_out: tuple[Config, ...] = ()
    seeds: tuple[Config, ...] = ()
    table: "DispatchTable | None" = None

    @property
    def strategy(self) -> FiniteSearch | None:
        """The strategy that tries a whole list; None where the space is searched."""
        if self.configs is None:
            return None
        return FiniteSearch(tuple(map(dict, self.configs)), left_out=tuple(map(dict, self.left_out)))

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.configs) < 2 if self.configs is not None else self.space.size == 1

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that a config sets."""
        if not self.listed:
            return frozenset(self.space.names)
        return frozenset(name for one in self.listed.values() for name in one.all_kwargs())

    @property
    def hooked(self) -> bool:
        """Whether a config has a hook of its own."""
        return any(getattr(one, "pre_hook", None) is not None for one in self.listed.values())

    def values(self, config: Config) -> dict[str, Any]:
        """The values of a config, by the names under which they go to the launch."""
        return launch_values(self.listed, config)

    def hook(self, config: Config) -> Callable[[dict[str, Any]], Any] | None:
        """The hook to be called before each launch of a config, or None."""
        return getattr(self.listed.get(config), "pre_hook", None)

    def triton_config(self, config: Config) -> Any:
        """The config as Triton writes it."""
        given = self.listed.get(config)
        return make_triton_config(config) if given is None else given

    def of_table(self, config: Config) -> Config | None:
        """The point of a config of the table; None where pruning has left it out."""
        wanted = str(make_triton_config(config))
        return next((point for point, one in self.listed.items() if str(one) == wanted), None)


def make_triton_config(config: Config) -> Any:
    """A `triton.Config` with these values."""
    import triton

    options = {name: config[name] for name in CONFIG_OPTIONS if name in config}
    return triton.Config({n: v for n, v in config.items() if n not in options}, **options)


def launch_values(listed: Mapping[Config, Any], config: Config) -> dict[str, Any]:
    """The values of a config, by the names under which they go to the launch. listed: as in `Candidates`."""
    given = listed.get(config)
    if given is not None:
        return dict(given.all_kwargs())
    return {name: value for name, value in config.items() if value is not None or name not in CONFIG_OPTIONS}


def parse_candidates(configs: Any, hull: bool, seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Candidates:
    """The candidates that the argument `configs` of the decorator describes. hull: search everything between the
    configs of a list. names: the kernel's parameters.

    Raises SpaceError or PlanError for a value that is no space and no list of configs, or does not fit the kernel.
    """
    found = _parse(configs, hull, seeds, names)
    if odd := sorted(found.names & {*_LAUNCH_NAMES}):
        raise SpaceError(f"the configs set {', '.join(odd)}, which a launch takes for itself; rename that parameter")
    return found


def _parse(given: Any, hull: bool, seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Candidates:
    if isinstance(given, Space):
        _check_names(given.names, names)
        begun = tuple(given.check(seed, f"seed config {i}") for i, seed in enumerate(seeds))
        first = given.default or (begun[0] if begun else given.decode(given.sample_distinct(root(0), 1))[0])
        return Candidates(space=given, first=first, listed={}, seeds=begun)
    if isinstance(given, str | os.PathLike):
        from autotune.shell.dispatch_table import load_table

        return _from_table(load_table(given), hull, seeds, names)
    if isinstance(given, Mapping) or not isinstance(given, Sequence):
        raise SpaceError(
            f"{type(given).__name__} is nothing to choose from; give a Space, a list of triton.Config, or a table"
        )
    if not given:
        import triton

        given = [triton.Config({})]
    odd = next((one for one in given if not hasattr(one, "all_kwargs")), None)
    if odd is not None:
        raise SpaceError(f"the list of configs has {odd!r:.80}; give triton.Config({{…}}, num_warps=…), or a Space")
    if seeds and not hull:
        raise PlanError("seeds are for a search, and a list of configs is tried as a whole; put them into the list")
    return _between_configs(list(given)) if hull else _from_list(list(given))


def _from_list(given: list[Any]) -> Candidates:
    """All configs of a list, each point once."""
    space, configs = _list_space(given)
    listed: dict[Config, Any] = {}
    for config, one in zip(configs, given, strict=True):
        listed.setdefault(config, one)
    return Candidates(space=space, first=configs[0], listed=listed, configs=tuple(listed))


def _from_table(
    table: "DispatchTable", hull: bool, seeds: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Candidates:
    """The configs of a dispatch table as a list."""
    if hull:
        raise SpaceError("a dispatch table has no hull: its configs are the result; give hull=False")
    if any(LABEL in config and len(config) == 1 for config in table.configs):
        raise SpaceError(
            f"the configs of the table of {table.kernel} have no common form, so they are texts; give the list of"
            " triton.Config that was tuned"
        )
    for config in table.configs:
        _check_names(tuple(config), names)
    return replace(_parse([make_triton_config(one) for one in table.configs], hull, seeds, names), table=table)


def _list_space(given: list[Any]) -> tuple[Space, list[Config]]:
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
    """The configs as texts, no two the same."""
    labels: list[str] = []
    for one in given:
        label = ", ".join(f"{name}={value}" for name, value in one.all_kwargs().items())
        hook = getattr(one.pre_hook, "__qualname__", None)
        label += "" if hook is None else f", pre_hook={hook}"
        labels.append(label if label not in labels else f"{label} ({len(labels)})")
    return labels


def _between_configs(given: list[Any]) -> Candidates:
    """The space between the least and the greatest value of each parameter; the search begins with the list."""
    space, configs = _list_space(given)
    if LABEL in space.names and len(space.names) == 1:
        raise SpaceError("the configs have no common form, and so no hull; give them all the same names, or a Space")
    if any(one.pre_hook is not None for one in given):
        raise SpaceError("a config has a pre_hook, which a hull cannot have; give hull=False, or a Space")
    parameters = {name: _parameter_between(name, [config[name] for config in configs]) for name in space.names}
    hull = Space(parameters, default=dict(configs[0]))
    return Candidates(space=hull, first=configs[0], listed={}, seeds=tuple(dict.fromkeys(configs)))


def _parameter_between(name: str, values: list[Any]) -> Parameter:
    """The parameter with all values between the least and the greatest. Of an option of a launch, 0 is no number but
    says that the compiler decides (`waves_per_eu`, `matrix_instr_nonkdim`): nothing lies between it and another."""
    if all(isinstance(value, bool) for value in values) and len(set(values)) == 2:
        return Boolean()
    by_the_compiler = 0 in values and name in launch_options()
    if not by_the_compiler and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        if low > 0 and all(value & (value - 1) == 0 for value in values) and high > 2:
            return PowerOfTwo(low, high)
        return Integer(low, high)
    return Choice(tuple({token(value): value for value in values}.values()))


def _check_names(used: Sequence[str], names: Sequence[str]) -> None:
    known = {*names, *launch_options()}
    odd = [name for name in used if name not in known]
    if odd:
        raise SpaceError(
            f"the space has {', '.join(map(repr, odd))}, which the kernel has no parameter for and no launch knows;"
            f" its parameters are {', '.join(names)}"
        )


@dataclass(frozen=True, eq=False)
class Pruning:
    """`prune_configs_by` of `triton.autotune`.

    early: returns the configs of a list that are worth trying. model: the time that a config may take. top_k: how many
    of the fastest by the model are tried, or which share of them. Raises PlanError for a top_k that leaves none.
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
        """The candidates that are left for these arguments. Raises PlanError where none is.

        named: the arguments by name. keywords: the call's, with grid and warmup, as in Triton.
        """
        left = all_of if self.early is None else _filter(all_of, self.early, named, keywords)
        return left if self.model is None else self._rank(left, self.model, {**keywords, **named})

    def _rank(self, left: Candidates, model: Model, given: Mapping[str, Any]) -> Candidates:
        if isinstance(self.top_k, float) and self.top_k == 1.0:
            return left
        configs = left.configs
        if configs is None:
            count = left.space.count()
            if count is None or count > _MOST_RANKED:
                raise PlanError(f"perf_model ranks at most {_MOST_RANKED} points and the space has more; narrow it")
            configs = tuple(left.space.enumerate())
        most = self.top_k if isinstance(self.top_k, int) else max(1, int(len(configs) * self.top_k))
        if len(configs) <= most:
            return left

        def predicted_ms(config: Config) -> float:
            values = {**given, **left.values(config)}
            return model(**_select_keywords(model, values))

        kept = sorted(configs, key=predicted_ms)[:most]
        if left.listed:
            return _from_list([left.listed[config] for config in kept])
        return replace(left, configs=tuple(kept), first=left.first if left.first in kept else kept[0])


def _filter(all_of: Candidates, early: Pruner, named: Mapping[str, Any], keywords: Mapping[str, Any]) -> Candidates:
    taken = _select_keywords(early, keywords)
    if all_of.listed:
        kept = list(early(list(all_of.listed.values()), dict(named), **taken))
        if not kept:
            raise PlanError("early_config_prune left no config; let it keep at least one")
        return _from_list(kept)
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


def _select_keywords(function: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that a function takes: all, as Triton passes them, or the ones that its parameters name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return dict(keywords)
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return dict(keywords)
    return {name: value for name, value in keywords.items() if name in parameters}
