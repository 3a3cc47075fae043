"""A user's program. Nobody runs it: `test_typing.py` has mypy check it with `--strict`, against the installed package.

`assert_type` says what a user's type checker must see. Each `type: ignore` marks a mistake that it must report; mypy
reports an ignored line without a mistake, too.
"""

# ruff: noqa: B018, F403, F405

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

import autotune
from autotune import *
from autotune import triton as tuned
from autotune.evaluators import Evaluator, WallClock
from autotune.kernel_tuner import kernel_tuner_strategy
from autotune.optuna import StrategySampler, distributions
from autotune.strategies import Ask, Done, Key, Observation, Proposals, Seeds, Strategy, fold
from autotune.studies import (
    Recording,
    Simulation,
    StudyResult,
    StudySpec,
    StudyTable,
    load_recording,
    load_study,
    record_space,
    run_study,
    simulate,
    study_tables,
)

space = Space(
    {"BLOCK": PowerOfTwo(16, 1024, role="block_size"), "fast": Boolean(), "order": Permutation(3)},
    ["BLOCK >= 32 or fast"],
    default={"BLOCK": 64, "fast": True, "order": (0, 1, 2)},
)
assert_type(space, Space)
assert_type(space.default, Config | None)
assert_type(space.names, tuple[str, ...])
assert_type(space.size, int)
assert_type(kernel_space([Tile(4096, low=16)], device="sm_90"), Space)
Space({"BLOCK": 3})  # type: ignore[dict-item]


def build(config: Config) -> Callable[[NDArray[np.float64]], float]:
    block: int = config["BLOCK"]
    return lambda x: float(x[:block].sum())


evaluator = CallableEvaluator(build, args=(np.ones(9),), reference=lambda x: x.sum(), workers=2)
assert_type(evaluator, CallableEvaluator)
any_evaluator: Evaluator = evaluator
CallableEvaluator(build, workers="two")  # type: ignore[arg-type]

command = CommandEvaluator(
    ["{program}"], ["cc", "-O{level}", "main.c", "-o", "{program}"], formats={"fast": {True: "-Ofast", False: None}},
    time=OutputPattern("took (.*) s", unit="s"), reference=Path("expected.txt"), checker=lambda out, _: "ok" in out,
)  # fmt: skip
any_evaluator = command
CommandEvaluator(["{program}"], time="cpu")  # type: ignore[arg-type]

with AskTell(space, "pattern_search", budget=40, journal=Path("run.jsonl")) as asked:
    assert_type(asked.ask(), Config | None)
    assert_type(asked.ask(3), list[Config])
    for each in asked:
        assert_type(each, Config)
        asked.tell(each, 1.5)
        asked.tell(each, [1.5, 1.25], compile_s=2.0)
        asked.tell(each, failed=ValueError("no"), kind="compile_error")
    asked.tell({"BLOCK": 32}, "fast")  # type: ignore[arg-type]
    assert_type(asked.best.config, Config)
    assert_type(asked.done, bool)
assert_type(AskTell.resume("run.jsonl"), AskTell)


def tunes() -> None:
    found = tune(space, evaluator, PatternSearch(copies=3), budget=Budget(seconds=20), seeds=[{"BLOCK": 32}])
    assert_type(found, Result)
    assert_type(found.best, MeasuredConfig)
    assert_type(found.best.config, Config)
    assert_type(found.best.time_ms, float)
    assert_type(found.best.times_ms, tuple[float, ...])
    assert_type(found.default, MeasuredConfig | None)
    assert_type(found.speedup, Ratio | None)
    assert_type(found.finalists, tuple[Finalist, ...])
    assert_type(found.notes, tuple[str, ...])
    assert_type(tune({"BLOCK": PowerOfTwo(16, 64)}, build, "gaussian_process", budget=100), Result)
    assert_type(tune(space, any_evaluator, RandomSearch, journal=Path("run.jsonl"), cache=True), Result)
    assert_type(resume("run.jsonl", evaluator), Result)
    assert_type(replay("run.jsonl"), Replay)
    tune(space, evaluator, strategy=3)  # type: ignore[arg-type]
    tune(space, evaluator, budgets=Budget())  # type: ignore[call-arg]
    found.best = found.best  # type: ignore[misc]
    found.fastest  # type: ignore[attr-defined]


def steps() -> None:
    search = start(make_plan(space, "random_search", budget=Budget(evaluations=9)))
    assert_type(search, Search)
    task = request(search, 2)
    match task:
        case Measure(trials=trials):
            assert_type(trials, tuple[Trial, ...])
        case Compare():
            assert_type(order_of_round(task, 0), tuple[int, ...])
        case Finished(reason=reason):
            assert_type(reason == "seconds", bool)
        case _:
            assert_type(task, Conclude | Wait)
    outcome: Outcome = Timed((1.0, 1.1))
    search = advance(advance(search, Asked(0.0, 2, task)), Observed(0.1, 0, outcome))  # type: ignore[arg-type]
    assert_type(result(search), Result)


def caches() -> None:
    cache = Cache("here", mode="read_only")
    key = key_for(space, evaluator)
    assert_type(key, LooseKey)
    assert_type(get_cache_dir(), Path)
    assert_type(iter_cache_entries("here", max_scan=3), Iterator[SavedBestConfig])
    assert_type(environment().effort, Literal["none", "quick", "full"] | None)
    assert_type(load_config("best.json"), Config)
    explain(cache, key)
    Cache("here", mode="read")  # type: ignore[arg-type]


class Halving(Struct, frozen=True):
    """A strategy of the user."""

    first: int = 8

    def init(self, space: Space, seeds: Seeds, key: Key) -> int:
        return self.first

    def propose(self, space: Space, state: int, ask: Ask, key: Key) -> Proposals | Done:
        points = space.sample(fold(key, "points"), state)
        new = points[ask.fresh(points)]
        return Proposals(new, np.arange(len(new))) if state else Done("nothing is left to halve")

    def observe(self, space: Space, state: int, seen: tuple[Observation, ...]) -> int:
        return state // 2


halving: Strategy[int] = Halving()
assert_type(WallClock()(), float)
register("halving", Halving)


def studies(folder: Path) -> None:
    spec = load_study("study.toml")
    assert_type(spec, StudySpec)
    found = run_study(spec, folder, out=folder, jobs=2)
    assert_type(found, StudyResult)
    assert_type(study_tables(found), tuple[StudyTable, ...])
    recording = load_recording("cache.json", objective="time")
    assert_type(recording, Recording)
    assert_type(simulate(Simulation.of(recording), "random_search", evaluations=9).trace.keys, tuple[str, ...])
    assert_type(record_space(space, evaluator, "out.json"), Recording)
    run_study("study.toml")  # type: ignore[arg-type]
    load_recording("cache.json", direction="up")  # type: ignore[arg-type]


def other_tuners() -> None:
    assert_type(list(distributions(space)), list[str])
    sampler = StrategySampler(space, "lfbo_tree_search", seed=1)
    StrategySampler(space, seeds=1)  # type: ignore[call-arg]
    assert_type(sampler, StrategySampler)
    kernel_tuner_strategy("lfbo_tree_search", seed="1")  # type: ignore[arg-type]
    assert_type(load_seeds("configs.json", space), SeedConfigs)
    assert_type(read_tuned_configs("configs.json", "vllm").entries[0].config, Config)
    write_tuned_configs([(16, {"BLOCK": 64})], "out.json", "vllm")
    write_tuned_configs([], "out.json", "tgi")  # type: ignore[arg-type]


@tuned(space, key=["n"], bucket="power_of_two", mode="lookup")
def kernel(x: Any, n: int, BLOCK: Any) -> None: ...


def launches(x: Any, grid: Sequence[int]) -> None:
    kernel[grid](x, 3)
    assert_type(kernel.arg_names, list[str])
    assert_type(kernel.bench_time, float)
    kernel.check_disk_cache  # type: ignore[attr-defined]


def libraries() -> None:
    with tuned.install(only="fla", skip=["fla.ops.*"], hull=True, mode="lookup", report=True) as made:
        assert_type(made.covers("fla.modules"), bool)
    tuned.install(hul=True)  # type: ignore[call-arg]
    tuned.install(mode="never")  # type: ignore[arg-type]
    tuned.uninstall()
    for row in tuned.report():
        assert_type(row.source, Literal["search", "cache", "table", "nearest", "list of one", "fallback", "given"])
        assert_type(row.gain, float | None)


assert_type(autotune.__version__, str)
