"""Which key a problem has: what its evaluator says it measures, and the space."""

from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from autotune.core.arguments import refuse
from autotune.core.errors import CacheError
from autotune.core.space import Space, as_space
from autotune.shell.cache.devices import current_device, installed_versions, processor
from autotune.shell.cache.keys import Constant, Device, Key, KeyKind, LooseKey, Specialization, StrictKey, digest_of
from autotune.shell.cache.sources import source_digest, value_digest
from autotune.shell.cache.specializing import specialization_of
from autotune.shell.evaluators.callable import CallableEvaluator
from autotune.shell.evaluators.protocol import as_evaluator


class Identity(Struct, frozen=True):
    """What an evaluator measures: a loose key without the space. The fields are those of `LooseKey`."""

    kernel: str
    source: str
    specialization: Specialization
    device: Device
    extra: dict[str, str] = {}


@runtime_checkable
class Identified(Protocol):
    """An evaluator that knows what it measures, so that a cache key can be made of it."""

    def identity(self) -> Identity: ...


def made_key(key: Key | KeyKind | None, space: Space, evaluator: object) -> Key:
    """The key that an argument of `tune` means: one that is given as it is, "strict" with the installed toolchain,
    "loose" or None without. Raises CacheError for anything else."""
    if isinstance(key, LooseKey | StrictKey):
        return key
    if key is None or (isinstance(key, str) and key == "loose"):
        return key_for(space, evaluator)
    if isinstance(key, str) and key == "strict":
        return StrictKey(key_for(space, evaluator), installed_versions())
    raise refuse("key", key, 'a LooseKey or a StrictKey, "loose" or "strict", or leave it out', CacheError)


def key_for(space: Space, evaluator: object) -> LooseKey:
    """The loose key of a problem; raises CacheError where the evaluator does not say what it measures."""
    space, evaluator = as_space(space), as_evaluator(evaluator)
    if (reached := space.opaque) is not None:
        raise CacheError(f"{reached}, which is of this process only, so its results have no key in the cache")
    if isinstance(evaluator, Identified):
        found = evaluator.identity()
    elif isinstance(evaluator, CallableEvaluator):
        found = _of_callable(evaluator)
    else:
        raise CacheError(
            f"a {type(evaluator).__name__} does not say what it measures, so its results have no key in the cache; "
            "pass key=LooseKey(…)"
        )
    return LooseKey(found.kernel, found.source, found.specialization, found.device, space.fingerprint, found.extra)


def _of_callable(evaluator: CallableEvaluator) -> Identity:
    build, make_args = evaluator.build, evaluator.make_args
    specialization = specialization_of(evaluator.args)
    if make_args is not None:
        specialization = Specialization({"make_args": Constant(source_digest(make_args))})
    check = [evaluator.rtol, evaluator.atol, _digest(evaluator.reference), _digest(evaluator.checker)]
    extra = {"check": digest_of(check), "arguments": digest_of([_kind(arg) for arg in evaluator.args])}
    if evaluator.timer is not None:
        extra["timer"] = _digest(evaluator.timer)
    kernel = f"{getattr(build, '__module__', '?')}.{getattr(build, '__qualname__', type(build).__name__)}"
    return Identity(kernel, source_digest(build), specialization, _device(evaluator), extra)


def _kind(arg: Any) -> str:
    """The type of an argument, and where it is: an array of numpy and a tensor on a GPU are treated differently."""
    kind, device = type(arg), getattr(getattr(arg, "device", None), "type", "")
    return f"{kind.__module__}.{kind.__qualname__} {device}".rstrip()


def _device(evaluator: CallableEvaluator) -> Device:
    """Where the tensors are; a timer of one's own times the accelerator, the wall clock this processor."""
    kinds = {getattr(getattr(arg, "device", None), "type", "") for arg in evaluator.args}
    return current_device() if kinds & {"cuda", "xpu"} or evaluator.timer is not None else processor()


def _digest(part: Any) -> str:
    """A digest of a function or of expected output."""
    return "" if part is None else source_digest(part) if callable(part) else value_digest(part)
