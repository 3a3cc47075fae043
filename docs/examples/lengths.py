"""A small problem in plain numpy: the lengths of 262,144 vectors. The tutorial tunes it; recording it takes seconds."""

import numpy as np

from autotune import Boolean, Budget, CallableEvaluator, Choice, PowerOfTwo, Problem, Space

space = Space(
    {
        "chunk": PowerOfTwo(256, 2**18, role="block_size"),
        "formula": Choice(["hypot", "sqrt", "abs"]),
        "reuse": Boolean(),
    },
    constraints=["formula == 'sqrt' or not reuse"],
    default={"chunk": 2**18, "formula": "hypot", "reuse": False},
)


def build(config):
    chunk, formula, reuse = config["chunk"], config["formula"], config["reuse"]
    scratch = np.empty(chunk)

    def lengths(x, y):
        out = np.empty_like(x)
        for start in range(0, len(x), chunk):
            a, b, c = (array[start : start + chunk] for array in (x, y, out))
            if formula == "hypot":
                np.hypot(a, b, out=c)
            elif formula == "abs":
                np.abs(a + 1j * b, out=c)
            elif reuse:
                np.multiply(a, a, out=c)
                np.add(c, np.multiply(b, b, out=scratch), out=c)
                np.sqrt(c, out=c)
            else:
                c[:] = np.sqrt(a * a + b * b)
        return out

    return lengths


rng = np.random.default_rng(0)
x, y = rng.random(2**18), rng.random(2**18)
evaluator = CallableEvaluator(build, args=(x, y), reference=np.hypot)
problem = Problem(space, evaluator, "random_search", budget=Budget(evaluations=30))
