"""Plans and events as JSON text and back. Decoding goes through msgspec types alone: no text of a file is executed."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

import autotune.shell.installed_strategies  # noqa: F401  # the registry asks it for names that it lacks
from autotune.core.config import Config
from autotune.core.errors import AutotuneError
from autotune.core.search.messages import Event
from autotune.core.search.plan import Budget, Plan, Settings
from autotune.core.space import Space
from autotune.core.space_spec import SpaceSpec
from autotune.core.strategies.registry import StrategySpec, from_spec, to_spec


def _enc_hook(value: Any) -> Any:
    if isinstance(value, Config):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON")


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Config and isinstance(value, dict):
        return Config(value)
    raise ValueError(f"expected a {kind.__name__}")


T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)
_event_decoder = msgspec.json.Decoder(Event, dec_hook=_dec_hook)


class PlanSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan as plain data."""

    space: SpaceSpec
    fingerprint: str
    strategy: StrategySpec
    budget: Budget = Budget()
    seed: int = 0
    seeds: tuple[dict[str, Any], ...] = ()
    best_available: tuple[dict[str, Any], ...] = ()
    settings: Settings = Settings()


def spec_of_plan(plan: Plan) -> PlanSpec:
    """A plan as plain data; raises StrategyError for a strategy without a name."""
    return PlanSpec(
        space=plan.space.spec,
        fingerprint=plan.space.fingerprint,
        strategy=to_spec(plan.strategy),
        budget=plan.budget,
        seed=plan.seed,
        seeds=tuple(dict(config) for config in plan.seeds),
        best_available=tuple(dict(config) for config in plan.best_available),
        settings=plan.settings,
    )


def plan_of_spec(spec: PlanSpec, space: Space | None = None) -> Plan:
    """The plan that `spec` describes; `space` stands in for its space, whose constraints may be functions."""
    return Plan(
        space or Space.from_spec(spec.space),
        from_spec(spec.strategy),
        spec.budget,
        spec.seed,
        tuple(map(Config, spec.seeds)),
        tuple(map(Config, spec.best_available)),
        spec.settings,
    )


def encode(value: Any) -> bytes:
    """One line of JSON."""
    return _encoder.encode(value)


def make_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder of values that hold configs. It raises msgspec's errors, and AutotuneError for values out of range."""
    return msgspec.json.Decoder(kind, dec_hook=_dec_hook)


def decode_event(text: bytes | msgspec.Raw) -> Event:
    """The event; raises msgspec.ValidationError or DecodeError for anything else."""
    try:
        event: Event = _event_decoder.decode(text)
    except AutotuneError as error:
        raise msgspec.ValidationError(str(error)) from None
    return event
