"""Enumerate three constrained spaces with autotune and with python-constraint2, each run in a process of its own.

    python docs/benchmarks/enumerate_spaces.py [--repeats 3]

python-constraint2 runs its OptimizedBacktrackingSolver (compiled) on the same constraints as strings, its preferred
form, which it turns into its own fast constraint types. Times include building the space, not imports; the memory is
the peak of the whole process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from math import prod

Space = tuple[dict[str, list[int]], list[str]]


def gemm() -> Space:
    """CLBlast's Xgemm as Kernel Tuner tunes it, its work-group sizes extended to 1e7 raw points."""
    values = {
        "MWG": [8, 16, 32, 64, 128, 256], "NWG": [8, 16, 32, 64, 128, 256],
        "KWG": [16, 32, 64, 128], "MDIMC": [8, 16, 32],
        "NDIMC": [8, 16, 32], "MDIMA": [8, 16, 32], "NDIMB": [8, 16, 32], "KWI": [2, 4, 8, 16], "VWM": [1, 2, 4, 8],
        "VWN": [1, 2, 4, 8], "STRM": [0, 1], "STRN": [0, 1], "SA": [0, 1], "SB": [0, 1],
    }  # fmt: skip
    constraints = [
        "KWG % KWI == 0",
        "MWG % (MDIMC * VWM) == 0",
        "NWG % (NDIMC * VWN) == 0",
        "MWG % (MDIMA * VWM) == 0",
        "NWG % (NDIMB * VWN) == 0",
        "KWG % ((MDIMC * NDIMC) / MDIMA) == 0",
        "KWG % ((MDIMC * NDIMC) / NDIMB) == 0",
        "(SA * KWG * MWG + SB * KWG * NWG) * 4 <= 49152",
    ]
    return values, constraints


def sparse() -> Space:
    """Eight variables of sixteen values, where about one point in some 1e5 is valid."""
    values = {f"x{i}": list(range(1, 17)) for i in range(8)}
    constraints = [
        "x0 * x1 == x2 * x3",
        "x2 + x3 == x4 + x5",
        "x4 * x5 == x6 * x7",
        "(x0 + x6) % 5 == 0",
    ]
    return values, constraints


def wide() -> Space:
    """Ten variables of four values; every constraint spans all ten."""
    values = {f"x{i}": [1, 2, 3, 5] for i in range(10)}
    every = list(values)
    constraints = [
        f"{' * '.join(every)} <= 3000",
        f"{' + '.join(every)} >= 18",
        f"({' + '.join(f'{i + 1} * {name}' for i, name in enumerate(every))}) % 3 == 0",
    ]
    return values, constraints


SPACES: dict[str, Callable[[], Space]] = {"gemm": gemm, "sparse": sparse, "wide": wide}


def ours(values: dict[str, list[int]], constraints: list[str]) -> int:
    """The number of rows that autotune enumerates."""
    from autotune.core.constraints import as_constraint
    from autotune.core.feasible import Feasible
    from autotune.core.parameters import Choice

    parameters = {name: Choice(tuple(choices)) for name, choices in values.items()}
    return len(Feasible(parameters, tuple(as_constraint(text, parameters) for text in constraints)).rows())


def theirs(values: dict[str, list[int]], constraints: list[str]) -> int:
    """The number of solutions that python-constraint2 returns, in its cheapest form: a list of dicts."""
    from constraint import OptimizedBacktrackingSolver, Problem

    problem = Problem(OptimizedBacktrackingSolver())
    for name, choices in values.items():
        problem.addVariable(name, choices)
    for text in constraints:
        problem.addConstraint(text)
    return len(problem.getSolutions())


SOLVERS = {"autotune": ours, "python-constraint2": theirs}


def run_one(solver: str, space: str) -> None:
    """Print seconds, valid points and the peak memory of one run, as JSON; imports are not timed."""
    values, constraints = SPACES[space]()
    if solver == "autotune":
        import autotune.core.feasible  # noqa: F401
    else:
        import constraint  # noqa: F401
    start = time.perf_counter()
    valid = SOLVERS[solver](values, constraints)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "valid": valid, "mib": peak}))


def best_of(solver: str, space: str, repeats: int) -> dict[str, float]:
    """The fastest of several runs, each in a fresh process."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--solver", solver, "--space", space]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    """Print the table, or do one run for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solver", choices=SOLVERS)
    parser.add_argument("--space", choices=SPACES)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.solver:
        return run_one(options.solver, options.space)
    print(f"{'space':8} {'raw':>13} {'valid':>9} {'autotune':>20} {'python-constraint2':>20} {'ratio':>7}")
    for space in [options.space] if options.space else SPACES:
        mine, other = (best_of(solver, space, options.repeats) for solver in SOLVERS)
        if mine["valid"] != other["valid"]:
            raise SystemExit(f"{space}: {mine['valid']} valid points against {other['valid']}")
        shown = [f"{run['seconds'] * 1e3:8.1f} ms {run['mib']:4.0f} MiB" for run in (mine, other)]
        raw, ratio = prod(map(len, SPACES[space]()[0].values())), other["seconds"] / mine["seconds"]
        print(f"{space:8} {raw:13,} {mine['valid']:9,} {shown[0]:>20} {shown[1]:>20} {ratio:6.1f}x")


if __name__ == "__main__":
    main()
