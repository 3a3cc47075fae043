"""Pure logic outside of the core: the same answer each time, and no file, process or socket is touched for it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from autotune import Budget, Config, Disturbance, Integer, LooseKey, SimulatedEvaluator, Space
from autotune.backends.helion.repair_rules import find_rules
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare, Limits
from autotune.shell.cache.entries import Measurement, Provenance, make_entry
from autotune.shell.cache.hit_rule import Requirements, shortfall
from autotune.shell.cache.keys import Device, Specialization, StrictKey, Tensor, Versions, differences, distance
from autotune.testing import HashedTable

SPACE = Space({"a": Integer(0, 9), "b": Integer(0, 9)}, default={"a": 0, "b": 0})


def loose(n: int) -> LooseKey:
    arguments = {"x": Tensor((n, n), "float32")}
    return LooseKey(
        kernel="k", source="s", specialization=Specialization(arguments), device=Device(kind="cpu", name="c"), space="f"
    )


def simulate() -> Any:
    device = SimulatedEvaluator(HashedTable(), compile_workers=2, disturbance=Disturbance(jitter=0.01, walk=0.01))
    trials = [Trial(i, Config(a=i, b=1)) for i in range(6)]
    with device.open(SPACE) as session:
        session.submit(trials, Limits())
        found = [session.poll() for _ in trials]
        session.compare(Compare(tuple(trials[:3]), 5, "verify", order=3))
        return found, session.poll()


def find_repairs() -> Any:
    def repair(config: Config) -> Config:
        return config if config["a"] > 4 else config.replace(b=0)

    return find_rules(SPACE, Config(a=0, b=0), repair)


def decide_hit() -> Any:
    config = Config(a=1, b=1)
    run = Provenance(id="0" * 16, began_at=0.0, written_at=0.0, budget=Budget(evaluations=5))
    measured = (Measurement(config, HashedTable().outcome(config)),)
    entry = make_entry(StrictKey(loose(4), Versions()), run, measured)
    return shortfall(entry, Requirements(effort="full", budget=Budget(evaluations=9), configs=(config,)))


def compare_keys() -> Any:
    return distance(loose(8), loose(64)), differences(loose(8), loose(64))


LOGIC: dict[str, Callable[[], Any]] = {
    "simulated device": simulate,
    "repair rules": find_repairs,
    "hit rule": decide_hit,
    "distance of keys": compare_keys,
}

_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event.partition(".")[0] in ("open", "os", "socket", "subprocess", "shutil", "tempfile"):
        _seen.append(f"{event}{arguments}")


@contextmanager
def effects() -> Iterator[list[str]]:
    """The files, processes and sockets that are used inside of the context."""
    global _seen
    _seen = []
    try:
        yield _seen
    finally:
        _seen = None


sys.addaudithook(_audit)


@pytest.mark.parametrize("name", LOGIC)
def test_no_effects_and_the_same_answer(name: str) -> None:
    first = LOGIC[name]()  # what is imported on the way is imported now
    with effects() as seen:
        again = LOGIC[name]()
    assert again == first
    assert not seen


def test_effects_are_seen() -> None:
    with effects() as seen, open(__file__):
        pass
    assert seen
