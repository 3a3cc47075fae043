"""Strategies of other tuners on a recording: one accounting for all, repeatable, and nothing global left changed."""

import random
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune.core.errors import StrategyError
from autotune.interop.peers import register_peers
from autotune.interop.peers.accounting import MAX_FREE, BudgetSpent, PeerBudget, run_peer
from autotune.studies.peers import find_peer, registered_peers
from autotune.studies.recordings import Recording, load_recording
from autotune.studies.scores import Scorer
from autotune.studies.simulation import Simulation
from tests.support import ROOT

EVALUATIONS = 60

NAMES = [
    *(f"kernel_tuner:{name}" for name in ("hybrid_vndx", "pso", "genetic_algorithm", "adaptive_tabu_greywolf")),
    *(f"kernel_tuner:{name}" for name in ("random_sample", "brute_force", "diff_evo", "simulated_annealing", "mls")),
    *(f"kernel_tuner:{name}" for name in ("firefly_algorithm", "greedy_ils", "greedy_mls", "ordered_greedy_mls")),
    *(f"kernel_tuner:{name}" for name in ("basinhopping", "minimize", "dual_annealing", "bayes_opt", "nsga2", "nsga3")),
    *(f"helion:{name}" for name in ("LFBOTreeSearch", "LFBOPatternSearch", "PatternSearch", "RandomSearch")),
    *(f"helion:{name}" for name in ("DifferentialEvolutionSearch", "DESurrogateHybrid")),
    *(f"optuna:{name}" for name in ("tpe", "random", "nsga2", "qmc")),
]


def written(path: Path) -> Path:
    """A recorded space of 3 x 8 x 4 x 2 points of which the slim ones are missing and some fail."""
    values: dict[str, list[Any]] = {"layout": ["row", "column", "tiled"], "x": [1, 2, 4, 8, 16, 32, 64, 128]}
    values |= {"unroll": [1, 2, 3, 4], "pad": [False, True]}
    cache = {}
    for layout in range(3):
        for x in values["x"]:
            for unroll in values["unroll"]:
                for pad in (False, True):
                    if x * unroll < 4:
                        continue
                    time = 1 + layout + abs(np.log2(x) - 4) + abs(unroll - 3) / 2 + pad / 4
                    point = dict(zip(values, (values["layout"][layout], x, unroll, pad), strict=True))
                    failed = "CompilationFailedConfig" if x * unroll > 300 else float(time)
                    timings = {"compile_time": 100.0, "benchmark_time": 10.0}
                    cache[",".join(map(str, point.values()))] = {**point, "time": failed, **timings}
    path.write_bytes(
        msgspec.json.encode(
            {
                "device_name": "none", "kernel_name": "toy", "problem_size": "1", "objective": "time",
                "tune_params_keys": list(values), "tune_params": values, "cache": cache,
            }
        )
    )  # fmt: skip
    return path


@pytest.fixture(autouse=True, scope="module")
def peers_of_this_library() -> None:
    """Whatever the metadata of the installed package says."""
    register_peers()


def test_the_entry_points_are_the_registered_factories() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        points = tomllib.load(file)["project"]["entry-points"]["autotune.peers"]
    assert registered_peers().keys() == points.keys()
    for prefix, factory in registered_peers().items():
        assert resolve_name(points[prefix]) is factory


@pytest.mark.parametrize(
    ("name", "extra"),
    [("optuna:tpe", "optuna"), ("kernel_tuner:pso", "kernel-tuner"), ("helion:PatternSearch", "helion")],
)
def test_a_tuner_that_is_not_installed_is_named_with_its_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, prefix, None)
    for module in [
        module for module in sys.modules if module.startswith((f"{prefix}.", f"autotune.interop.peers.{prefix}"))
    ]:
        monkeypatch.delitem(sys.modules, module)
    missing = f"(torch|{prefix})"  # Helion's peer imports torch first, which may be missing as well
    with pytest.raises(StrategyError, match=rf"{name} needs {missing}.*; pip install 'autotune-kernels\[{extra}\]'"):
        find_peer(name, {})


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return load_recording(written(tmp_path_factory.mktemp("peers") / "toy.json"))


@pytest.fixture(scope="module")
def simulation(recording: Recording) -> Simulation:
    return Simulation.of(recording)


def installed(name: str) -> None:
    pytest.importorskip({"kernel_tuner": "kernel_tuner", "helion": "helion", "optuna": "optuna"}[name.split(":")[0]])


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_measures_recorded_points_once_and_repeats_itself(name: str, simulation: Simulation) -> None:
    installed(name)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    trace = find_peer(name, {}).run(simulation, EVALUATIONS, 3, None)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]  # noqa: NPY002
    assert 1 <= len(trace.keys) <= EVALUATIONS
    assert len(set(trace.keys)) == len(trace.keys)
    assert set(trace.keys) <= set(simulation.recording.keys)
    assert trace.own_end == (len(trace.keys) < EVALUATIONS)
    random.seed(8)
    assert find_peer(name, {}).run(simulation, EVALUATIONS, 3, None).keys == trace.keys
    if name not in ("kernel_tuner:brute_force", "kernel_tuner:minimize"):
        others = [find_peer(name, {}).run(simulation, EVALUATIONS, seed, None).keys for seed in (4, 5)]
        assert any(keys != trace.keys for keys in others)


@pytest.mark.parametrize("name", ["helion:PatternSearch", "kernel_tuner:genetic_algorithm"])
def test_with_restarts_all_evaluations_are_used(name: str, simulation: Simulation) -> None:
    installed(name)
    n = len(simulation.recording) - 20
    once = find_peer(name, {}).run(simulation, n, 1, None)
    again = find_peer(name, {"restarts": True}).run(simulation, n, 1, None)
    assert again.keys[: len(once.keys)] == once.keys
    assert len(again.keys) == n


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("helion:LFBOPatternSearch", {"initial_population": 15, "copies": 2}),
        ("kernel_tuner:pso", {"popsize": 8}),
        ("optuna:tpe", {}),
    ],
)
def test_a_peer_that_learns_does_better_than_chance(name: str, settings: Any, simulation: Simulation) -> None:
    installed(name)
    scorer, rows = Scorer(simulation.recording), {key: row for row, key in enumerate(simulation.recording.keys)}
    peer = find_peer(name, settings)
    runs = [[rows[key] for key in peer.run(simulation, 40, seed, None).keys] for seed in range(6)]
    assert np.mean([scorer.best_ms(np.array(run))[-1] for run in runs]) < scorer.baseline.expected_ms(40)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("kernel_tuner:psso", {}, "has no strategy 'psso'"),
        ("kernel_tuner:pso", {"popsizes": 3}, "no setting 'popsizes'; it has .*popsize.* restarts"),
        ("kernel_tuner:pso", {"restarts": 1}, "use true or false"),
        ("helion:LFBOTree", {}, "no search 'LFBOTree'"),
        ("helion:LFBOTreeSearch", {"copiez": 3}, "no setting 'copiez'"),
        ("optuna:tpi", {}, "no sampler 'tpi'"),
        ("optuna:tpe", {"seed": 3}, "no setting 'seed'"),
    ],
)
def test_wrong_names_and_settings(name: str, settings: dict[str, Any], says: str) -> None:
    installed(name)
    with pytest.raises(StrategyError, match=says):
        find_peer(name, settings)


def test_settings_reach_the_tuner(simulation: Simulation) -> None:
    installed("helion:PatternSearch")
    few = find_peer("helion:PatternSearch", {"initial_population": 2, "max_generations": 1, "copies": 1})
    assert len(few.run(simulation, 100, 0, None).keys) < 30


def test_the_budget_of_a_peer(recording: Recording) -> None:
    budget = PeerBudget(recording, 2)
    failed = int(np.flatnonzero(~recording.timed)[0])
    assert budget.measure(None) is None
    assert budget.measure(failed) is None
    assert budget.measure(failed) is None
    assert budget.measure(0) == recording.time_ms[0]
    assert (list(budget.rows), budget.free, budget.left) == ([failed, 0], 2, 0)
    with pytest.raises(BudgetSpent):
        budget.measure(0)


def test_who_goes_in_a_circle_is_stopped(simulation: Simulation) -> None:
    calls = []

    def circling(budget: PeerBudget, seed: int) -> None:
        while True:
            calls.append(budget.measure(random.randrange(3)))

    trace = run_peer("x:y", simulation, circling, evaluations=50, seed=0, restarts=True, max_free=100)
    assert (len(trace.keys), trace.own_end) == (3, True)
    assert len(calls) < 700
    assert MAX_FREE > 100
