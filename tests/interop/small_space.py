"""A small space with a known fastest config, for the tests of other tuners."""

from typing import Any

from autotune import Boolean, Choice, Integer, Permutation, PowerOfTwo, Space

SPACE = Space(
    {
        "block": PowerOfTwo(1, 64),
        "stages": Integer(0, 30, 3),
        "layout": Choice((None, "row", (1, 2))),
        "flag": Boolean(),
        "order": Permutation(3),
    },
    ["block * stages < 600"],
)

STRATEGIES = ["lfbo_tree_search", "pattern_search", "differential_evolution", "gaussian_process", "random_search"]


def slow(config: Any) -> float:
    """Fastest, at 1, for one config of the space."""
    near = abs(config["block"] - 16) + abs(config["stages"] - 9) + config["flag"]
    return float(1 + near + (config["order"] != (2, 1, 0)))
