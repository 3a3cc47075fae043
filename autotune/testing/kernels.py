"""Python kernels with planted faults: they hang, crash, flood, lie and run out of memory; two of them are right.

They are for evaluators that build Python callables and compare outputs. A kernel gets an array and must return twice
of it. `quick` is right and the fastest, `slow` is right and slower, `prints` is right and floods the standard streams.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.core.config import Config
from autotune.core.parameters import Choice
from autotune.core.space import Space

Array = NDArray[np.float64]


def _spin(ms: float) -> None:
    until = time.perf_counter() + ms / 1000
    while time.perf_counter() < until:
        pass


def _quick(x: Array) -> Array:
    _spin(0.2)
    return x * 2


def _slow(x: Array) -> Array:
    _spin(3.0)
    return x * 2


def _prints(x: Array) -> Array:
    for _ in range(2_000):
        print("hello " * 20)
        sys.stderr.write("hello\n")
    os.write(1, b"hello from C\n" * 100)
    return x * 2


def _hangs(x: Array) -> None:
    ctypes.CDLL(None).sleep(600)  # in C, where no Python signal handler runs


def _crashes(x: Array) -> None:
    ctypes.string_at(0)


def _exits(x: Array) -> None:
    os._exit(0)


def _is_killed(x: Array) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raises(x: Array) -> None:
    raise ValueError("no such tile")


def _is_wrong(x: Array) -> Array:
    return x * 2 + 1


def _is_not_a_number(x: Array) -> Array:
    return x * np.nan


def _returns_nothing(x: Array) -> None:
    return None


def _allocates(x: Array) -> None:
    blocks = []
    while True:
        blocks.append(np.empty(1 << 22))


def _is_quick_and_wrong(x: Array) -> Array:
    return x


def _breaks(x: Array) -> None:
    raise AssertionError("it does not build, so it is never called")


KERNELS: Mapping[str, Callable[[Array], Any]] = {
    "slow": _slow,
    "quick": _quick,
    "prints": _prints,
    "hangs": _hangs,
    "crashes": _crashes,
    "exits": _exits,
    "killed": _is_killed,
    "raises": _raises,
    "wrong": _is_wrong,
    "not_a_number": _is_not_a_number,
    "nothing": _returns_nothing,
    "allocates": _allocates,
    "quick_and_wrong": _is_quick_and_wrong,
    "breaks": _breaks,
}

FAULTS: Mapping[str, frozenset[str]] = {
    "hangs": frozenset({"run_timeout"}),
    "crashes": frozenset({"crash"}),
    "exits": frozenset({"crash"}),
    "killed": frozenset({"crash"}),
    "raises": frozenset({"run_error"}),
    "wrong": frozenset({"wrong_answer"}),
    "not_a_number": frozenset({"wrong_answer"}),
    "nothing": frozenset({"wrong_answer"}),
    "quick_and_wrong": frozenset({"wrong_answer"}),
    "allocates": frozenset({"out_of_memory", "crash"}),
    "breaks": frozenset({"compile_error"}),
}
"""The kinds of `Failed` that a kernel with a fault may end with. Give the evaluator timeouts and a memory limit."""

HARMLESS_FAULTS: Mapping[str, frozenset[str]] = {
    name: FAULTS[name] for name in ("raises", "wrong", "not_a_number", "nothing", "quick_and_wrong", "breaks")
}
"""The faults that an evaluator in the tests' own process survives."""

INPUT: Array = np.arange(64.0)


def build_kernel(config: Config) -> Callable[[Array], Any]:
    """The kernel that `config["kernel"]` names; RuntimeError for the one that does not build."""
    if config["kernel"] == "breaks":
        raise RuntimeError("does not compile")
    return KERNELS[str(config["kernel"])]


def reference(x: Array) -> Array:
    """The right output."""
    return x * 2


def kernel_space(*names: str, default: str | None = "slow") -> Space:
    """A space of these kernels (without names: of all), with a default."""
    return Space({"kernel": Choice(names or tuple(KERNELS))}, (), {"kernel": default} if default else None)


def fault_configs(faults: Mapping[str, frozenset[str]] = FAULTS) -> dict[Config, frozenset[str]]:
    """The configs of faults with the kinds of failure that they may end with: for `EvaluatorLaws.make_faults`."""
    return {Config(kernel=name): kinds for name, kinds in faults.items()}
