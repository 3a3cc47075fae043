"""Does it help to know the best configs of other devices? Warm against cold starts on recordings of one kernel.

    python docs/benchmarks/warm_start.py FOLDER [--strategy NAME] [--seeds 30] [--evaluations 300] [--learned 200]
                                           [--at-most 20]

Recordings called KERNEL__DEVICE are grouped by kernel. For each device the strategy first searches the recordings of
the other ones, so many configs each, and what it measured goes into a cache. Then it searches this device: from random
configs, from the default, and from the best available of that cache. Printed is how many configs it takes, in the
median, until one is within 5 % of the optimum; a search that never gets there counts as all its evaluations. The
recordings name no default: it is the first recorded point, all parameters as low as they go.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from autotune import Budget, Cache, Device, LooseKey, SimulatedEvaluator, Space, Specialization, StrictKey, WarmStart
from autotune.core.config import Config
from autotune.core.search.messages import Event
from autotune.core.search.state import Search, start
from autotune.core.strategies.registry import DEFAULT_STRATEGY, STRATEGIES, canonical_name
from autotune.shell.cache.entries import entry_of_search, new_run
from autotune.shell.cache.keys import Versions
from autotune.shell.cache.warm_start import best_available
from autotune.shell.driver import Driver, Interruption
from autotune.shell.plans import make_plan
from autotune.studies.recordings import load_recording
from autotune.studies.simulation import WITHOUT_FINISH, Simulation

POPULATION = "initial_population_strategy"
STARTS = ("from_random", "from_default", "from_best_available")
NEAR = 1.05
AMD = ("MI250X", "W6600", "W7800")


def searched(
    simulation: Simulation,
    space: Space,
    strategy: str,
    evaluations: int,
    seed: int,
    goal: float = 0.0,
    **options: Any,
) -> Search:
    """One exact search, one config at a time, until one takes no longer than `goal`, in ms."""
    start_from: str = options.pop("start_from")
    settings: Mapping[str, Any] = {**WITHOUT_FINISH}
    if POPULATION in STRATEGIES[canonical_name(strategy)].__struct_fields__:
        settings = {**settings, POPULATION: start_from, "pad": WarmStart().pad}
    evaluator = SimulatedEvaluator(simulation.table)
    plan = make_plan(
        space, strategy, exact=True, budget=Budget(evaluations=evaluations), seed=seed, settings=settings, **options
    )
    interruption = Interruption()

    def watch(search: Search, event: Event) -> None:
        interruption.requested = search.best_ms is not None and search.best_ms <= goal

    with evaluator.open(space) as session:
        return Driver(start(plan), session, watch=watch).run(interruption)


def reached(simulation: Simulation, search: Search, evaluations: int) -> int:
    """How many configs were measured until one was within 5 % of the optimum."""
    archive = search.archive
    times = np.where(archive.ok, archive.time_ms, np.inf)
    near = np.flatnonzero(times <= simulation.recording.optimum_ms * NEAR)
    return int(near[0]) + 1 if len(near) else evaluations


def key_of(kernel: str, device: str, space: Space) -> LooseKey:
    kind = "hip" if device in AMD else "cuda"
    return LooseKey(
        kernel=kernel,
        source="",
        specialization=Specialization(),
        device=Device(kind=kind, name=device),
        space=space.fingerprint,
    )


Learned = dict[tuple[str, int], Search]
"""By device and seed what is known of one kernel: the same for each of the other devices."""


def learn(
    cache: Cache, kernel: str, known: Learned, others: dict[str, Simulation], strategy: str, n: int, seed: int
) -> None:
    """Search the other devices, `n` configs each, unless they are `known`, and put what was measured into the cache."""
    for device, simulation in others.items():
        if (device, seed) not in known:
            known[device, seed] = searched(simulation, simulation.space, strategy, n, seed, start_from="from_random")
        key = StrictKey(key_of(kernel, device, simulation.space), Versions())
        cache.publish(entry_of_search(known[device, seed], key, new_run()))


def compare(
    kernel: str, device: str, group: dict[str, Simulation], known: Learned, options: argparse.Namespace
) -> list[list[int]]:
    """The evaluations to within 5 % of each seed, for each of STARTS."""
    simulation = group[device]
    space = simulation.space
    goal_ms = simulation.recording.optimum_ms * NEAR
    others = {name: other for name, other in group.items() if name != device}
    with_default = Space(space.parameters, space.constraints, default=space.decode(space.rows()[:1])[0])
    found: list[list[int]] = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            cache = Cache(folder)
            learn(cache, kernel, known, others, options.strategy, options.learned, 1000 + seed)
            wanted = WarmStart(at_most=options.at_most, other_devices=True)
            origins = best_available(cache, key_of(kernel, device, space), space, wanted)
        best = tuple(Config(origin.config) for origin in origins)
        counts = []
        for start_from in STARTS:
            chosen = with_default if start_from == "from_default" else space
            given = {"best_available": best} if start_from == "from_best_available" else {}
            search = searched(
                simulation, chosen, options.strategy, options.evaluations, seed, goal_ms, start_from=start_from, **given
            )
            counts.append(reached(simulation, search, options.evaluations))
        found.append(counts)
    return found


def groups(folder: Path) -> dict[str, dict[str, Simulation]]:
    """Recordings by kernel and device; a device that was recorded in two formats counts once."""
    found: dict[str, dict[str, Simulation]] = defaultdict(dict)
    for path in sorted(folder.glob("*__*.json*")):
        kernel, _, device = path.name.partition(".")[0].partition("__")
        device = device.removesuffix("_T4")
        if device not in found[kernel]:
            found[kernel][device] = Simulation.of(load_recording(path))
    return {kernel: group for kernel, group in found.items() if len(group) > 1}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", default=DEFAULT_STRATEGY)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--learned", type=int, default=200)
    parser.add_argument("--at-most", type=int, default=20)
    options = parser.parse_args()
    print(f"{options.strategy}, {options.seeds} seeds, {options.learned} configs learned from on each other device")
    print(
        f"{'median evaluations to within 5 %':<36}"
        + "".join(f"{start:>21}" for start in STARTS)
        + "   warm/random   warm/default"
    )
    shares: list[tuple[float, float]] = []
    runs: list[list[int]] = []
    for kernel, group in groups(options.folder).items():
        known: Learned = {}
        for device in group:
            counts = compare(kernel, device, group, known, options)
            runs += counts
            medians = [median(column) for column in zip(*counts, strict=True)]
            shares.append((medians[2] / medians[0], medians[2] / medians[1]))
            cells = "".join(f"{value:>21.1f}" for value in medians)
            print(f"{kernel + ' on ' + device:<36}{cells}   {shares[-1][0]:11.2f}   {shares[-1][1]:12.2f}", flush=True)
    means = [geometric_mean(column) for column in zip(*shares, strict=True)]
    print(f"{'geometric mean':<99}   {means[0]:11.2f}   {means[1]:12.2f}")
    whole = [median(column) for column in zip(*runs, strict=True)]
    cells = "".join(f"{value:>21.1f}" for value in whole)
    print(
        f"{'all searches (aim: 0.50 or less)':<36}{cells}   {whole[2] / whole[0]:11.2f}   {whole[2] / whole[1]:12.2f}"
    )


if __name__ == "__main__":
    main()
