"""Runs a search of every strategy in this process and writes their journals: `python one_run.py FOLDER`."""

import sys
from pathlib import Path


def main(path, strategy, index, evaluator, space):
    import strategies
    from evaluators import EVALUATORS

    from autotune import Budget, TuningFailed, tune

    searched = strategies.SPACES[space]()
    try:
        tune(
            searched, EVALUATORS[evaluator](), strategies.instance((strategy, int(index)), searched), journal=path,
            budget=Budget(evaluations=60), seed=9, settings={"simplify_rounds": 1, "verify_rounds": 3}, progress=False,
        )  # fmt: skip
    except TuningFailed as error:
        print(error, file=sys.stderr)


def many(folder):
    """Every strategy, on spaces and evaluators by turns; one journal each."""
    import strategies
    from evaluators import REPEATABLE

    names, spaces = list(REPEATABLE), ["gemm", "mixed", "gemm without a default"]
    for i, (strategy, index) in enumerate(strategies.INSTANCES):
        path = Path(folder) / f"{strategy}-{index}"
        main(path, strategy, index, names[i % len(names)], spaces[i % len(spaces)])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    many(sys.argv[1])
