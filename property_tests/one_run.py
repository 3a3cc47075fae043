"""Searches with every strategy in this process and writes their journals: `python -m property_tests.one_run FOLDER`."""

import sys
from pathlib import Path

from autotune import Budget, TuningFailed, tune
from autotune.testing import SPACES
from property_tests.registry import EVALUATORS, INSTANCES, REPEATABLE, instance


def main(path, strategy, index, evaluator, space):
    searched = SPACES[space]()
    try:
        tune(
            searched, EVALUATORS[evaluator](), instance((strategy, int(index)), searched), journal=path,
            budget=Budget(evaluations=60), seed=9, settings={"simplify_rounds": 1, "verify_rounds": 3}, progress=False,
        )  # fmt: skip
    except TuningFailed as error:
        print(error, file=sys.stderr)


def evaluator_of(which):
    """The evaluator of an instance of a strategy: they take turns."""
    names = list(REPEATABLE)
    return names[INSTANCES.index(which) % len(names)]


def many(folder):
    """Every strategy, on spaces and evaluators by turns; one journal each."""
    spaces = ["gemm", "mixed", "gemm without a default"]
    for i, (strategy, index) in enumerate(INSTANCES):
        path = Path(folder) / f"{strategy}-{index}"
        main(path, strategy, index, evaluator_of((strategy, index)), spaces[i % len(spaces)])


if __name__ == "__main__":
    many(sys.argv[1])
