"""A tour of autotune in a few seconds, without a compiler or a GPU: `python docs/examples/quick_tour.py`."""

import tempfile
from pathlib import Path

import numpy as np

from autotune import Boolean, Budget, CallableEvaluator, Choice, PowerOfTwo, Space, replay, resume, tune
from autotune.strategies import root

# 1. A space: named parameters, constraints as expressions over the names, and the config you would use without tuning.
space = Space(
    {
        "chunk": PowerOfTwo(256, 2**18, role="block_size"),
        "formula": Choice(["hypot", "sqrt", "abs"]),
        "reuse": Boolean(),
    },
    constraints=["formula == 'sqrt' or not reuse"],  # the others have no temporaries to reuse
    default={"chunk": 2**18, "formula": "hypot", "reuse": False},
)
print(space, "\n")

# A space can be sampled, walked and written out without measuring anything. Points are rows of integers; keys are the
# only source of randomness, so the same key gives the same points everywhere.
for config in space.decode(space.sample(root(3), 3)):
    print("sampled:", config, "| differs from the default in:", config.minimize(space))

# 2. A kernel: build(config) returns the function to time. Here, lengths of vectors (x, y), chunk by chunk in numpy.
rng = np.random.default_rng(0)
x, y = rng.random(2**18), rng.random(2**18)


def build(config):
    chunk, formula, reuse = config["chunk"], config["formula"], config["reuse"]
    scratch = np.empty(chunk)  # the temporaries: reused from chunk to chunk, or allocated each time

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


# 3. Tune. Every config is checked against the reference before it is timed. "in_process" suits a notebook; leave it out
#    for kernels that may hang or crash. The journal receives all that happens, as it happens.
evaluator = CallableEvaluator(build, args=(x, y), reference=np.hypot, isolation="in_process", target_ms=20)
journal = Path(tempfile.mkdtemp()) / "tour.jsonl"
result = tune(space, evaluator, "random_search", budget=Budget(evaluations=25), journal=journal)
print(f"\nbest: {result.best.config}, {result.best.time_ms:.2f} ms; the default: {result.default.time_ms:.2f} ms")
print(f"speed-up {result.speedup.value:.2f} ({result.speedup.low:.2f} to {result.speedup.high:.2f}); {result.counts}")
print(f"as good, given the noise: {[str(finalist.measured.config) for finalist in result.finalists]}")
print(f"stopped: {result.stopped}: {result.detail}, {result.elapsed_s:.1f} s")

# 4. Resume: cut the journal as a kill would, and go on from there. What it still holds is not measured again.
lines = journal.read_bytes().splitlines(keepends=True)
journal.write_bytes(b"".join(lines[: len(lines) // 2]))
resumed = resume(journal, evaluator)
print(f"\nresumed from {len(lines) // 2} of {len(lines)} lines: {resumed.best.config}, {resumed.best.time_ms:.2f} ms")

# 5. Replay: fold the journal again, without measuring, and check every decision in it.
replayed = replay(journal)
print(f"replayed {replayed.checked} decisions, divergence: {replayed.divergence}")
