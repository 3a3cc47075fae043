"""Writes the golden files beside it: in `today`: `python tests/golden/make.py [FOLDER]`.

A small journal of every strategy, of searches that ended in other ways, and a cache with one entry. The tests read,
replay and resume them, so that a later version that cannot is noticed. Make them anew only where the format, or what a
search asks for, has been changed on purpose; files of versions that were released stay as they are.
"""

import platform
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from autotune import (
    STRATEGIES,
    Budget,
    CallableEvaluator,
    Config,
    FiniteSearch,
    Integer,
    PowerOfTwo,
    Space,
    TuningFailed,
    tune,
)

SPACE = Space(
    {"BLOCK": PowerOfTwo(16, 128), "STAGES": Integer(1, 4), "WARPS": PowerOfTwo(1, 8)},
    ["BLOCK >= 16 * WARPS"],
    default={"BLOCK": 32, "STAGES": 2, "WARPS": 1},
)
LAST = [1.0]


def build(config):
    """A kernel that says itself how long it takes; some configs do not compile."""
    if config["STAGES"] == 4 and config["BLOCK"] == 128:
        raise RuntimeError("too much shared memory")
    time_ms = 0.25 * (1 + abs(config["BLOCK"] - 64) / 64) * (1 + abs(config["STAGES"] - 3)) + 0.01 * config["WARPS"]

    def kernel():
        LAST[0] = time_ms

    return kernel


def fails(config):
    raise RuntimeError("nothing compiles")


def said(call):
    """A timer that believes the kernel."""
    call()
    return LAST[0]


def evaluator(build=build, exact=False):
    """Measures in this process, and gives the same times everywhere."""
    return CallableEvaluator(
        build, isolation="in_process", timer=said, warmup_ms=0.0, target_ms=0.0, max_repeats=3, exact=exact
    )


def make(folder):
    """All golden files, in place of those in the folder."""
    platform.node = lambda: "golden"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.jsonl"):
        old.unlink()
    shutil.rmtree(folder / "cache", ignore_errors=True)
    listed = FiniteSearch((Config({"BLOCK": 64, "STAGES": 3, "WARPS": 2}), SPACE.default))
    for name in STRATEGIES:
        strategy = listed if name == "finite_search" else name
        tune(
            SPACE, evaluator(), strategy, budget=Budget(evaluations=20), seed=7, journal=folder / f"{name}.jsonl",
            progress=False,
        )  # fmt: skip
    tune(SPACE, evaluator(exact=True), "random_search", seed=1, journal=folder / "exact.jsonl", progress=False)
    failing = Space({"BLOCK": PowerOfTwo(16, 128)})
    with suppress(TuningFailed):
        tune(failing, evaluator(fails), "random_search", journal=folder / "all_failed.jsonl", progress=False)
    tune(
        SPACE, evaluator(), "random_search", budget=Budget(evaluations=8), cache=folder / "cache", journal=False,
        progress=False,
    )  # fmt: skip


if __name__ == "__main__":
    import make as module  # the functions are then those of a module, as the tests know them

    module.make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "today")
