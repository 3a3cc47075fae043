"""Our strategies as a strategy of Kernel Tuner."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.interop.small_space import STRATEGIES


def cache_file(path: Path) -> tuple[Path, dict[str, list[Any]]]:
    """A recorded kernel of 4 x 8 x 2 points, those with few threads left out."""
    values = {"block_size_x": [16, 32, 64, 128], "tile": [1, 2, 3, 4, 5, 6, 7, 8], "use_pad": [0, 1]}
    cache = {}
    for x in values["block_size_x"]:
        for tile in values["tile"]:
            for pad in values["use_pad"]:
                if x * tile < 64:
                    continue
                time: Any = 1 + abs(x - 64) / 16 + abs(tile - 5) + pad
                time = "RuntimeFailedConfig" if x * tile > 900 else time
                timings = {"compile_time": 1.0, "verification_time": 0.0, "benchmark_time": 1.0}
                point = {"block_size_x": x, "tile": tile, "use_pad": pad}
                cache[f"{x},{tile},{pad}"] = {**point, "time": time, "times": [time], **timings}
                cache[f"{x},{tile},{pad}"]["GFLOP/s"] = time if isinstance(time, str) else 100 / time
    kernel = {
        "device_name": "simulated", "kernel_name": "toy", "problem_size": 1, "objective": "time",
        "tune_params_keys": list(values), "tune_params": values, "cache": cache,
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode(kernel))
    return path, values


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("objective", [("time", False), ("GFLOP/s", True)])
def test_tune_kernel_with_our_strategy(strategy: str, objective: tuple[str, bool], tmp_path: Path) -> None:
    kernel_tuner = pytest.importorskip("kernel_tuner")
    from autotune.interop.kernel_tuner import kernel_tuner_strategy

    cache, values = cache_file(tmp_path / "cache.json")

    def tuned(seed: int, evaluations: int) -> list[dict[str, Any]]:
        results, _ = kernel_tuner.tune_kernel(
            "toy", "void toy() {}", 1, [], values, lang="C", restrictions=["block_size_x * tile >= 64"],
            strategy=kernel_tuner_strategy(strategy, seed=seed), strategy_options={"max_fevals": evaluations},
            cache=str(cache), simulation_mode=True, quiet=True, objective=objective[0],
            objective_higher_is_better=objective[1],
        )  # fmt: skip
        return [result for result in results if "strategy_time" in result]

    few, again, other = tuned(1, 20), tuned(1, 20), tuned(2, 20)

    def points(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [tuple(result[name] for name in values) for result in results]

    assert len(set(points(few))) == len(few) == 20
    assert points(few) == points(again) != points(other)
    every = tuned(1, 1_000)
    assert len(set(points(every))) == 56
    assert (64, 5, 0) in points(every)


def test_the_space_of_a_kernel_tuner_search_space() -> None:
    pytest.importorskip("kernel_tuner")
    from kernel_tuner.searchspace import Searchspace

    from autotune.interop.kernel_tuner import valid_space

    values = {"block_size_x": [32, 64, 128], "mode": ["a", "b"], "unroll": [0, 1]}
    whole = valid_space(Searchspace(values, [], 1024))
    assert whole.count() == 12
    assert not whole.constraints
    assert [type(p).__name__ for p in whole.parameters.values()] == ["PowerOfTwo", "Choice", "Choice"]
    assert whole.parameters["block_size_x"].role == "block_size"
    part = valid_space(Searchspace(values, ["block_size_x * (unroll + 1) <= 64"], 1024))
    assert {(c["block_size_x"], c["unroll"]) for c in part.enumerate()} == {(32, 0), (32, 1), (64, 0)}
