"""How good is the config of the nearest shape, and how few configs serve all shapes? On families that are computed.

    python docs/benchmarks/shapes.py [--seeds 5] [--noise 0.02] [--measured 1.0 0.5]

No recordings of one kernel on several shapes are at hand, so the times are SYNTHETIC: a roofline of a GPU with 132
multiprocessors, of matrix products (c = a b, with a split of k) and of attention. A config has waves of blocks, a
throughput that grows with its tile, the traffic of its tiles, stages that hide latency while they fit into shared
memory, and a factor of its own by seed, 4 % in the standard deviation, that changes with each doubling of the shape.
Each measurement has noise on top. The real question, how fast the order of configs changes with the shape, is thus
answered by a model: these figures test the algorithms, and say little about a real kernel.

For each seed, the shapes of a grid are tuned: a share of the configs, drawn for each shape, is measured, and the
fastest is its pick. Other shapes, drawn between, are not. Losses are of true times over the fastest config of the whole
list, in the geometric mean over all such shapes and seeds:

- nearest: what `miss="nearest"` takes, by the nearest and the next nearest tuned shape; its pick: the pick of the
  nearest shape alone; first: the first config of the list.
- picks: the picks on the tuned shapes themselves, which fall short by noise and by what was not measured.
- cover: the configs of `minimum_cover` on the tuned shapes, and the new ones served from its rows; one: the one
  config with the least geometric mean on the tuned shapes.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, inf, log2, nan

import numpy as np

from autotune import Device, LooseKey, Specialization
from autotune.core.cover import complete, minimum_cover, suit_both
from autotune.shell.cache.keys import Constant, distance

UNITS, TFLOPS, BYTES_PER_MS, SHARED = 132, 800e9, 3.0e9, 227 << 10
"""Multiprocessors, operations and bytes in a millisecond, and bytes of shared memory: about those of an H100."""

LAUNCH_MS = 0.003
Shape = tuple[int, ...]
Config = tuple[int, ...]
Model = Callable[[Shape, Config], float]


@dataclass(frozen=True)
class Family:
    """A kernel. names: of the sizes of a shape. grid: the shapes that are tuned. configs: the first is the fallback."""

    kernel: str
    names: tuple[str, ...]
    grid: tuple[tuple[int, ...], ...]
    configs: tuple[Config, ...]
    model: Model


def blocks_ms(blocks: int, shared: int, warps: int, block_ms: float) -> float:
    """Waves of blocks; as many share a multiprocessor as fit, which slows each of them but for its latency."""
    if shared > SHARED:
        return inf
    resident = max(1, min(SHARED // max(shared, 1), 16 // warps, 4))
    waves = ceil(blocks / (UNITS * resident))
    last = min(blocks, UNITS * resident) / UNITS
    return waves * block_ms * max(1.0, 0.8 * min(last, resident))


def matmul_ms(shape: Shape, config: Config) -> float:
    m, n, k = shape
    block_m, block_n, block_k, warps, stages, split = config
    steps = ceil(ceil(k / split) / block_k)
    blocks = ceil(m / block_m) * ceil(n / block_n) * split
    tile = block_m * block_n
    use = min(1.0, (block_m / 128) ** 0.35) * min(1.0, (block_n / 128) ** 0.3) * (0.8 if tile / warps > 4096 else 1.0)
    use *= 0.75 if tile / warps < 512 else 1.0
    math = 2 * tile * block_k / (TFLOPS / UNITS * use)
    load = (block_m + block_n) * block_k * 2 / (BYTES_PER_MS * 1.6 / UNITS)
    latency = 6e-4 / (stages - 1) * (1.0 if block_k >= 64 else 0.8)
    inner = steps * max(math, load, latency) + stages * 5e-4
    shared = (block_m + block_n) * block_k * 2 * stages
    floor = 2 * (m * k + k * n + m * n) / BYTES_PER_MS
    again = 0.0 if split == 1 else 4 * m * n * split / BYTES_PER_MS + 0.002
    return LAUNCH_MS + max(blocks_ms(blocks, shared, warps, inner), floor) + again


def attention_ms(shape: Shape, config: Config) -> float:
    heads, length = shape
    block_q, block_kv, warps, stages = config
    width = 128
    blocks = heads * ceil(length / block_q)
    steps = ceil(length / block_kv)
    use = min(1.0, (block_q / 128) ** 0.4) * min(1.0, (block_kv / 64) ** 0.25) * (0.7 if block_q / warps > 32 else 1.0)
    math = 4 * block_q * block_kv * width / (0.7 * TFLOPS / UNITS * use)
    load = 4 * block_kv * width / (BYTES_PER_MS * 2 / UNITS)
    inner = steps * max(math, load, 8e-4 / (stages - 1)) + stages * 6e-4
    shared = (block_q + 2 * block_kv * stages) * width * 2
    floor = 8 * heads * length * width / BYTES_PER_MS
    return LAUNCH_MS + max(blocks_ms(blocks, shared, warps, inner), floor)


WIDTHS = (1024, 4096, 14336)
FAMILIES = (
    Family(
        "matmul",
        ("m", "n", "k"),
        tuple(product((16, 32, 64, 128, 256, 512, 1024, 2048, 4096), WIDTHS, WIDTHS)),
        (
            (128, 256, 64, 8, 3, 1),
            *product((16, 32, 64, 128, 256), (32, 64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4), (1, 4)),
        ),
        matmul_ms,
    ),
    Family(
        "attention",
        ("heads", "length"),
        tuple(product((8, 16, 32, 64, 128, 256, 512), (128, 256, 512, 1024, 2048, 4096, 8192, 16384))),
        ((128, 64, 4, 3), *product((16, 32, 64, 128, 256), (16, 32, 64, 128), (2, 4, 8), (2, 3, 4))),
        attention_ms,
    ),
)


def true_times(family: Family, shapes: list[Shape], seed: int) -> np.ndarray:
    """Milliseconds without noise. The factor of a config goes smoothly from one doubling of the sizes to the next."""
    doublings = 64
    factors = np.random.default_rng(seed).normal(0, 0.04, (len(family.configs), len(family.names), doublings))
    times = np.array([[family.model(shape, config) for config in family.configs] for shape in shapes])
    for axis in range(len(family.names)):
        place = np.array([log2(shape[axis]) for shape in shapes])
        low = place.astype(int)
        share = place - low
        change = factors[:, axis, low] * (1 - share) + factors[:, axis, low + 1] * share
        times = times * np.exp(change.T / np.sqrt(len(family.names)))
    return times


def key(family: Family, shape: Shape) -> LooseKey:
    arguments = {name: Constant(size) for name, size in zip(family.names, shape, strict=True)}
    device = Device(kind="cuda", name="synthetic")
    return LooseKey(kernel=family.kernel, source="", specialization=Specialization(arguments), device=device, space="")


def new_shapes(family: Family, count: int, seed: int) -> Iterator[Shape]:
    """Sizes between the least and the greatest of the grid; of matmul the number of rows alone is new, as in a
    server."""
    generator = np.random.default_rng(1000 + seed)
    for _ in range(count):
        shape = list(family.grid[generator.integers(len(family.grid))])
        for axis in range(1 if family.kernel == "matmul" else len(shape)):
            sizes = [known[axis] for known in family.grid]
            shape[axis] = int(2 ** generator.uniform(log2(min(sizes)), log2(max(sizes))))
        yield tuple(shape)


def serve(wanted: LooseKey, keys: list[LooseKey], times: list[dict[int, float]]) -> int:
    """The config of the nearest shape, as `find_neighbour` takes it from the cache."""
    order = sorted(range(len(keys)), key=lambda i: distance(wanted, keys[i]))
    near, far = order[:2]
    return suit_both(times[near], times[far], distance(wanted, keys[near]), distance(wanted, keys[far]))


def mean(losses: list[float]) -> str:
    return f"{100 * np.expm1(np.mean(np.log1p(losses))):6.1f} %"


def one_family(family: Family, seeds: int, noise: float, measured: float) -> str:
    found: dict[str, list[float]] = {
        name: [] for name in ("picks", "nearest", "its pick", "first", "cover", "cover, new", "one")
    }
    counts, winners, exact, estimated = [], [], [], []
    for seed in range(seeds):
        tuned, new = list(family.grid), list(new_shapes(family, 60, seed))
        true, true_new = true_times(family, tuned, seed), true_times(family, new, seed)
        generator = np.random.default_rng(seed)
        noisy = true * np.exp(generator.normal(0, noise, true.shape))
        drawn = generator.random(true.shape) < measured
        drawn[:, 0] = True
        times = np.where(drawn, noisy, nan)
        times[:, 0] = np.where(np.isfinite(times[:, 0]), times[:, 0], inf)
        picks = np.where(np.isfinite(times), times, inf).argmin(axis=1)
        completed = complete(times)
        cover = minimum_cover(completed.losses, 0.05)
        counts.append(len(cover.configs))
        winners.append(len(set(picks)))
        exact.append(cover.exact)
        estimated.append(float(completed.estimated.mean()))
        choice = np.array([c if c is not None else 0 for c in cover.choice])
        best, best_new = true.min(axis=1), true_new.min(axis=1)
        keys = [key(family, shape) for shape in tuned]
        near = np.array([min(range(len(keys)), key=lambda i: distance(key(family, shape), keys[i])) for shape in new])
        rows, rows_new = np.arange(len(tuned)), np.arange(len(new))
        found["picks"] += list(true[rows, picks] / best - 1)
        known = [{c: row[c] for c in np.flatnonzero(np.isfinite(row))} for row in times]
        served = np.array([serve(key(family, shape), keys, known) for shape in new])
        found["nearest"] += list(true_new[rows_new, served] / best_new - 1)
        found["its pick"] += list(true_new[rows_new, picks[near]] / best_new - 1)
        found["first"] += list(true_new[:, 0] / best_new - 1)
        found["cover"] += list(true[rows, choice] / best - 1)
        rows_of = [{c: 1 + row[c] for c in cover.configs if np.isfinite(row[c])} for row in completed.losses]
        served = np.array([serve(key(family, shape), keys, rows_of) for shape in new])
        found["cover, new"] += list(true_new[rows_new, served] / best_new - 1)
        found["one"] += list(true[:, np.log(true).mean(axis=0).argmin()] / best - 1)
    cells = [f"{name} {mean(losses)}" for name, losses in found.items()]
    number = f"{np.mean(counts):.1f} configs for {np.mean(winners):.1f} different picks of {len(family.grid)} shapes"
    return (
        f"{family.kernel}, {measured:.0%} of {len(family.configs)} configs measured: {'; '.join(cells)}; cover of"
        f" {number} (least in {sum(exact)} of {len(exact)}; {np.mean(estimated):.0%} of the times estimated)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument("--measured", type=float, nargs="+", default=[1.0, 0.5, 0.1])
    options = parser.parse_args()
    for family in FAMILIES:
        for measured in options.measured:
            print(one_family(family, options.seeds, options.noise, measured), flush=True)


if __name__ == "__main__":
    main()
