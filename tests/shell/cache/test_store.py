"""Many processes on one cache directory, some of them killed: nothing that was published is lost, nothing is torn."""

import os
import random
import signal
import time
from pathlib import Path

import msgspec
import pytest

from autotune import Cache
from autotune.shell.cache.entries import new_run
from autotune.shell.cache.store import Store
from autotune.testing import numbered_entry, numbered_key

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork"),
]

PROCESSES, KEYS = 16, 6


def writer(folder: Path, ledger: Path, seed: int, stop: Path) -> None:
    """Publish, publish more of the same run, look up, iterate; and note down what publishing has promised."""
    dice, cache = random.Random(seed), Cache(folder)
    notes = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while not stop.exists():
        number, run = dice.randrange(KEYS), new_run()
        for size in range(1, dice.randrange(2, 5)):
            times = {seed * 1000 + i: 1.0 + dice.random() for i in range(size)}
            entry = numbered_entry(number, times, run=run)
            cache.publish(entry)
            os.write(notes, f"{entry.name} {size}\n".encode())
        assert cache.find(numbered_key(number)) is not None, "what this process has published itself"
        for entry in list(cache.newest(20)):
            assert entry.measurements
        broken = [problem for store in cache.stores for problem in store.broken.items()]
        assert not broken, f"a torn read: {broken}"
        time.sleep(dice.random() * 0.05)


def forked(folder: Path, ledger: Path, seed: int, stop: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        writer(folder, ledger, seed, stop)
        code = 0
    finally:
        os._exit(code)


def hammered(folder: Path, seconds: float) -> dict[str, int]:
    """What was promised while 16 processes went on and one was killed every tenth of a second.

    On a busy machine a kill takes longer, as the victim may be writing to the disk: it goes on until there were enough.
    """
    ledger, stop, dice = folder / "ledger", folder / "stop", random.Random(0)
    until = time.monotonic() + seconds
    alive = {forked(folder / "cache", ledger, seed, stop) for seed in range(PROCESSES)}
    seed, kills = PROCESSES, 0
    while time.monotonic() < until or kills <= seconds:
        time.sleep(0.1)
        victim = dice.choice(sorted(alive))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), "it ended by itself: an assertion failed in it"
        alive.remove(victim)
        alive.add(forked(folder / "cache", ledger, seed, stop))
        seed, kills = seed + 1, kills + 1
    stop.touch()
    for child in alive:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    promised: dict[str, int] = {}
    for line in ledger.read_bytes().splitlines():
        name, size = line.decode().split()
        promised[name] = max(promised.get(name, 0), int(size))
    return promised


def check(folder: Path, seconds: float) -> None:
    promised = hammered(folder, seconds)
    store = Store(folder / "cache")
    kept = {entry.name: entry for entry in store.entries()}
    assert not store.broken
    assert set(promised) <= set(kept), "no entry is lost"
    for name, size in promised.items():
        assert len(kept[name].measurements) >= size, "the last state that was promised, or a later one"
    cache = Cache(folder / "cache")
    for number in range(KEYS):
        key = numbered_key(number)
        names = {name for name in kept if name.startswith(key.loose.digest)}
        assert {entry.name for entry in cache.entries(key)} == names
        every = {m.config for name in names for m in kept[name].measurements}
        assert set(cache.measurements(key)) == every, "what all writers measured is merged"
    found = {numbered_key(number).digest: cache.find(numbered_key(number)) for number in range(KEYS)}
    for digest, entry in found.items():
        best = min(e.result.best.time_ms for e in kept.values() if e.key.digest == digest and e.result is not None)
        assert entry is not None
        assert entry.result is not None
        assert entry.result.best.time_ms == best
    left = [path for path in (folder / "cache" / "entries").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert all(path.name.startswith(".") and path.suffix == ".tmp" for path in left)
    assert msgspec.json.decode(next((folder / "cache" / "entries").rglob("*.json")).read_bytes())["format"]


def test_sixteen_processes_and_kills(tmp_path: Path) -> None:
    check(tmp_path, 5.0)


@pytest.mark.slow
def test_sixteen_processes_and_kills_for_a_minute(tmp_path: Path) -> None:
    check(tmp_path, 60.0)
