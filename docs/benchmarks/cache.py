"""What the cache costs: a lookup by key, cold and warm, the newest 500 entries, and a miss explained.

    python docs/benchmarks/cache.py [--entries 10000] [--configs 30] [--folder FOLDER]

The directory is filled with entries of different shapes and devices, each with so many measured configs. Cold: a new
`Cache` that has seen nothing yet; warm: the same one again. The files are in the operating system's memory.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from autotune import Cache, Config, Device, Integer, LooseKey, PowerOfTwo, Space, StrictKey, Timed, WarmStart
from autotune.core.keys import fold, root, uniform
from autotune.core.search.result import MeasuredConfig, Result
from autotune.shell.cache.cache import iter_cache_entries
from autotune.shell.cache.entries import Entry, Measurement, encode_entry, make_entry, new_run
from autotune.shell.cache.inspect import explain
from autotune.shell.cache.keys import Specialization, Tensor, Versions
from autotune.shell.cache.store import Store, is_settled
from autotune.shell.cache.warm_start import best_available

BLOCK = PowerOfTwo(16, 256)
SPACE = Space({"BLOCK_M": BLOCK, "BLOCK_N": BLOCK, "warps": PowerOfTwo(1, 16), "stages": Integer(1, 8)})
LOOKUPS = 300


def entry_number(number: int, configs: int) -> Entry:
    """An entry of a shape and device of its own."""
    shape = (64 * (1 + number % 100), 64 * (1 + number // 100))
    argument = Tensor(shape, "float16")
    device = Device(kind="cuda", name=f"device {number % 3}", architecture="sm_90", units=132)
    specialization = Specialization({"a": argument, "b": argument}, {"EVEN": True})
    key = StrictKey(
        LooseKey(
            kernel="matmul", source="0" * 32, specialization=specialization, device=device, space=SPACE.fingerprint
        ),
        Versions(torch="2.9", triton="3.5", driver="580", autotune="0.1"),
    )
    rows = SPACE.decode(SPACE.sample_distinct(fold(root(0), number), configs))
    times = (1 + uniform(fold(root(1), number), configs)).tolist()
    measured = tuple(Measurement(c, Timed((t, t * 1.01, t * 1.02))) for c, t in zip(rows, times, strict=True))
    best = min(range(configs), key=times.__getitem__)
    found = MeasuredConfig(best, Config(rows[best]), times[best], times[best], times[best], (times[best],))
    result = Result(found, None, (), None, {"timed": configs}, configs, 60.0, "strategy", "", True)
    return make_entry(key, new_run(), measured, space=SPACE.spec, result=result)


def filled(folder: Path, entries: int, configs: int) -> list[StrictKey]:
    """A directory with so many entries; their keys. Written without synchronising, as nothing here must survive."""
    store, keys, size = Store(folder), [], 0
    for number in range(entries):
        entry = entry_number(number, configs)
        path, content = store.path(entry.name), encode_entry(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        keys.append(entry.key)
        size += len(content)
    print(f"{entries:,} entries of {configs} configs, {size / entries / 1024:.1f} KiB each")
    return keys


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def found(folder: Path, key: LooseKey | StrictKey) -> Entry | None:
    """A lookup by a cache that has seen nothing yet."""
    return Cache(folder).find(key)


def shown(name: str, seconds: list[float], limit: str) -> None:
    ordered = sorted(seconds)
    high = ordered[int(0.99 * (len(ordered) - 1))]
    unit, factor = ("us", 1e6) if median(ordered) < 1e-3 else ("ms", 1e3)
    figures = (("least", ordered[0]), ("median", median(ordered)), ("99 %", high))
    print(
        f"{name:<40}" + "".join(f"  {what} {value * factor:8.1f} {unit}" for what, value in figures) + f"   ({limit})"
    )


def report(folder: Path, keys: list[StrictKey]) -> None:
    asked = keys[:: max(len(keys) // LOOKUPS, 1)][:LOOKUPS]
    Cache(folder).find(asked[0])  # what is loaded at a first use
    for label, kind in (("loose", False), ("strict", True)):
        wanted: list[LooseKey | StrictKey] = [key if kind else key.loose for key in asked]
        cold = [timed(partial(found, folder, key)) for key in wanted]
        cache = Cache(folder)
        assert all(cache.find(key) is not None for key in wanted)
        warm = [timed(partial(cache.find, key)) for key in wanted for _ in range(20)]
        shown(f"find by {label} key, cold", cold, "2 ms")
        shown(f"find by {label} key, warm", warm, "20 us")
    missing = [
        LooseKey(
            kernel="matmul",
            source="1" * 32,
            specialization=k.loose.specialization,
            device=k.loose.device,
            space=k.loose.space,
        )
        for k in asked
    ]
    shown("find, a miss, cold", [timed(partial(found, folder, key)) for key in missing], "2 ms")
    newest = [timed(lambda: list(iter_cache_entries(folder, max_scan=500))) for _ in range(7)]
    shown("iter_cache_entries(max_scan=500)", newest, "100 ms")
    options = WarmStart(other_devices=True, other_shapes=True)
    warm_start = [timed(lambda: best_available(Cache(folder), keys[0].loose, SPACE, options)) for _ in range(3)]
    shown("best_available, 500 scanned, any device", warm_start, "no limit")
    shown("explain, all entries", [timed(lambda: explain(Cache(folder), missing[0])) for _ in range(2)], "no limit")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--configs", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where to make the temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        keys = filled(Path(folder), options.entries, options.configs)
        written = time.time_ns()
        while not is_settled(written):  # entries written just now are looked up anew each time
            time.sleep(0.1)
        report(Path(folder), keys)


if __name__ == "__main__":
    main()
