"""Draw distinct valid points from spaces of very different density, and time it.

    python docs/benchmarks/sample_points.py [--points 10000]

The first draw includes working out how to sample (a probe, tables where they pay off); the second is the usual one.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from autotune.core.constraints import as_constraint
from autotune.core.feasible import Feasible
from autotune.core.keys import root
from autotune.core.parameters import Choice, Integer, OptionalOf, Parameter, PowerOfTwo

Space = tuple[dict[str, Parameter], list[str]]


def tenth() -> Space:
    """Twenty parameters, over 1e15 raw points, about a tenth valid, one component."""
    parameters: dict[str, Parameter] = {f"b{i}": PowerOfTwo(1, 128) for i in range(10)}
    parameters |= {f"i{i}": Integer(1, 10) for i in range(8)}
    parameters |= {"layout": Choice(("row", "column", None)), "split": OptionalOf(PowerOfTwo(1, 16))}
    total = " + ".join(f"i{i}" for i in range(8))
    blocks = " * ".join(f"b{i}" for i in range(0, 10, 2))
    return parameters, [
        f"{blocks} <= 2 ** 18",
        f"{total} + b1 + b3 <= 92",
        "split is None or split * b5 <= 128",
        "layout is not None or b7 * i0 >= b9",
        "b0 + b1 + b2 >= 30",
    ]


def thousandth() -> Space:
    """Twelve parameters, one point in some thousand valid, small components."""
    parameters: dict[str, Parameter] = {f"x{i}": Integer(1, 24) for i in range(12)}
    return parameters, [f"x{i} * x{i + 1} == 2 * x{i + 2}" for i in range(0, 12, 3)]


def billionth() -> Space:
    """Ten parameters, 1e15 raw points, less than one in 1e9 valid."""
    return {f"x{i}": Integer(1, 32) for i in range(10)}, [
        "x0 * x1 == x2 * x3",
        "x2 + x3 == x4 + x5",
        "x4 * x5 == x6 * x7",
        "x6 + x7 + x8 + x9 == 100",
        "x8 % 5 == x9 % 7",
    ]


def factors() -> Space:
    """Eight factors of 2**24: one point in 1e9 of 2e14, under a single constraint that spans them all."""
    names = [f"x{i}" for i in range(8)]
    return {name: Integer(1, 64) for name in names}, [f"{' * '.join(names)} == 2 ** 24"]


def ranges() -> Space:
    """Two parameters of a million values each."""
    return {"a": Integer(1, 10**6), "b": Integer(1, 10**6)}, ["a == b * 3", "a % 1000 == 0"]


SPACES: tuple[Callable[[], Space], ...] = (tenth, thousandth, billionth, factors, ranges)


def main() -> None:
    """Print one line a space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    n = parser.parse_args().points
    print(
        f"{'space':11} {'raw':>8} {'valid':>7} {'method':>16} {'uniform':>7} {'first':>10} {'then':>10} {'distinct':>9}"
    )
    for space in SPACES:
        parameters, texts = space()
        feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
        start = time.perf_counter()
        feasible.sample(root(1), n)
        first = time.perf_counter()
        drawn = feasible.sample(root(2), n)
        then = time.perf_counter()
        assert feasible.valid(drawn).all()
        raw = float(np.prod([float(parameter.size) for parameter in parameters.values()]))
        how = "/".join(sorted({type(method).__name__ for method in feasible._methods}))
        anywhere = Feasible(parameters, ()).sample(root(3), 100_000)
        share = float(feasible.valid(anywhere).mean())  # of raw points; 0 where it is too small to be seen
        seen = len(np.unique(drawn, axis=0))
        times = f"{(first - start) * 1e3:7.1f} ms {(then - first) * 1e3:7.1f} ms"
        print(f"{space.__name__:11} {raw:8.1e} {share:7.3f} {how:>16} {feasible.uniform!s:>7} {times} {seen:9,}")


if __name__ == "__main__":
    main()
