"""How often a search finds the fastest config where another one leaves threads running that take the processors.

    python docs/benchmarks/left_threads.py [--searches 20]

The default takes 2 work units and the best config 1, so the speed-up is 2. One config starts a thread that never ends,
for each processor; whatever is timed beside these takes a multiple of its time.
"""

import argparse
import os
import sys
from collections import Counter

from autotune import Budget, CallableEvaluator, Choice, RandomSearch, Space, tune

UNITS = {"default": 2.0, "best": 1.0, "close": 1.5, "leaves threads": 1.8, "slow": 3.0, "slower": 4.0}
SPACE = Space({"name": Choice(list(UNITS))}, default={"name": "default"})


def build(config):
    import threading

    import numpy as np

    count = int(20_000 * UNITS[config["name"]])
    values = np.linspace(0.0, 1.0, count)

    def spin():
        x = np.ones(1 << 16)
        while True:
            np.sqrt(x, out=x)  # without the interpreter's lock, so that it takes a processor

    started = []

    def kernel():
        if config["name"] == "leaves threads" and not started:
            started.extend(threading.Thread(target=spin, daemon=True) for _ in range(os.cpu_count() or 1))
            for thread in started:
                thread.start()
        for _ in range(20):
            np.sin(values)

    return kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=20)
    options = parser.parse_args()
    picks, ratios = Counter(), []
    for seed in range(options.searches):
        evaluator = CallableEvaluator(build, warmup_ms=5, target_ms=30)
        found = tune(SPACE, evaluator, RandomSearch(), budget=Budget(evaluations=6), seed=seed, progress=False)
        picks[found.best.config["name"]] += 1
        ratios.append(found.speedup.value)
    low, *_, high = sorted(ratios)
    print(f"the best config was picked in {picks['best']} of {options.searches} searches ({dict(picks)})")
    print(f"speed-ups from {low:.2f} to {high:.2f}, where 2.00 is true")
    sys.exit(picks["best"] < options.searches)


if __name__ == "__main__":
    main()
