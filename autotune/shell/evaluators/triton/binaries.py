"""Configs that differ only in what a kernel is given at run time share their binary: it is compiled once for all."""

from collections.abc import Callable, Hashable
from typing import Any

from autotune.core.config import Config
from autotune.core.outcomes import Failed
from autotune.shell.evaluators.triton import wire
from autotune.shell.evaluators.triton.jobs import Job

Verdict = wire.Compiled | wire.NotCompiled | Failed
"""What became of a binary; Failed: its compiler was killed or has crashed."""

GRAIN = 16
"""Triton compiles another binary for whole numbers that are divisible by this, and for 1."""


def binary_of(kernel: Any) -> Callable[[Config], Hashable]:
    """A function that gives configs an equal value only where the kernel's binary is the same.

    Where nothing is known of the kernel (`build`, the interpreter), every config has a binary of its own.
    """
    parameters = {p.name: p for p in getattr(kernel, "params", ()) if not p.is_constexpr}

    def key(config: Config) -> Hashable:
        return tuple((name, _kind(value, parameters.get(name))) for name, value in config.items())

    return key


def _kind(value: Any, parameter: Any) -> Hashable:
    """The value; of an argument at run time what Triton's dispatcher looks at, or more than that."""
    if parameter is None or not isinstance(value, int):
        return type(value).__name__, value
    special = not parameter.do_not_specialize
    if isinstance(value, bool):
        return ("bool", value if special else None)
    width = next((bits for bits in (31, 63, 64) if -(2**bits) <= value < 2**bits), None)
    return ("int", width, special and (value == 1, value % GRAIN == 0))


class Binaries:
    """Who waits for which binary, and what became of those that were compiled."""

    def __init__(self, key: Callable[[Config], Hashable]) -> None:
        self._key = key
        self._known: dict[Hashable, Verdict] = {}
        self._waiting: dict[Hashable, list[Job]] = {}

    @property
    def waiting(self) -> int:
        """How many configs wait for a binary that another is having compiled."""
        return sum(map(len, self._waiting.values()))

    def verdict(self, job: Job) -> Verdict | None:
        """What is known already of this config's binary."""
        return self._known.get(self._key(job.trial.config))

    def claim(self, job: Job) -> bool:
        """Whether this config is the first to want its binary, and is to have it compiled; if not, it waits."""
        key = self._key(job.trial.config)
        if key in self._waiting:
            self._waiting[key].append(job)
            return False
        self._waiting[key] = []
        return True

    def settle(self, job: Job, verdict: Verdict) -> list[Job]:
        """The binary that this config had claimed has come to this; the others that waited for it."""
        key = self._key(job.trial.config)
        self._known[key] = verdict
        return self._waiting.pop(key, [])

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
