"""Tune a blocked matrix product on the CPU: `autotune tune docs/examples/blocked_matmul.py` (needs numba).

The product is the one of shortest paths, out[i, j] = min over k of a[i, k] + b[k, j]: if a and b hold the distances
between towns, out holds those with one stop on the way. No BLAS offers it, so one writes the kernel oneself, and then
faces the usual questions: which blocks, in which order, how far unrolled, packed or not, on one core or on all? The
answers depend on caches and on what the compiler manages to vectorise, so the space below asks them all at once.
"""

import numpy as np
from numba import njit, prange

from autotune import Boolean, Budget, CallableEvaluator, Config, Permutation, PowerOfTwo, Problem, Space, tune

N = 512
rng = np.random.default_rng(0)
a = rng.random((N, N), dtype=np.float32)
b = rng.random((N, N), dtype=np.float32)

space = Space(
    {
        # The product is done block by block, so that what is being worked on stays in the cache.
        "block_i": PowerOfTwo(16, 256, role="block_size"),
        "block_j": PowerOfTwo(32, 512, role="block_size"),
        "block_k": PowerOfTwo(16, 256, role="block_size"),
        # The order of the loops over blocks, outermost first: 0 is i, 1 is j, 2 is k.
        "order": Permutation(3),
        # Inside a block, unroll_i rows of `out` meet unroll_k rows of `b` at once: what was loaded is used that often.
        "unroll_i": PowerOfTwo(1, 8),
        "unroll_k": PowerOfTwo(1, 8),
        # Whether each block of b is copied first, so that its rows lie side by side in memory.
        "pack_b": Boolean(),
        # Whether the outermost loop is shared out among the cores.
        "parallel": Boolean(),
    },
    constraints=[
        # Blocks of one k-range each would all write to the same rows of `out`: a race.
        "not (parallel and order[0] == 2)",
        # The a[i, k] of the unrolled loops should stay in registers; beyond, they are spilled and compiling takes long.
        "unroll_i * unroll_k <= 16",
        # A block of b (4 bytes an element) is read again for every row, so it should fit the second-level cache.
        "4 * block_k * block_j <= 2**18",
    ],
    # What one would write without tuning: square blocks, a plain inner loop, all cores.
    default={
        "block_i": 64, "block_j": 64, "block_k": 64, "order": (0, 1, 2),
        "unroll_i": 1, "unroll_k": 1, "pack_b": False, "parallel": True,
    },
)  # fmt: skip


def block_source(rows: int, depth: int) -> str:
    """The innermost loops, unrolled as text: `rows` x `depth` terms for each j, which the compiler can vectorise."""
    us, vs = range(rows), range(depth)
    lines = [
        "def block(a, b, out, i0, i1, j0, j1, bj0, bj1):",
        f"    for i in range(i0, i1, {rows}):",
        *(f"        out{u} = out[i + {u}, j0:j1]" for u in us),
        f"        for k in range(0, b.shape[0], {depth}):",
        *(f"            b{v} = b[k + {v}, bj0:bj1]" for v in vs),
        *(f"            a{u}_{v} = a[i + {u}, k + {v}]" for u in us for v in vs),
        "            for j in range(out0.size):",
    ]
    for u in us:
        least = f"out{u}[j]"
        for v in vs:
            least = f"min({least}, a{u}_{v} + b{v}[j])"
        lines.append(f"                out{u}[j] = {least}")
    return "\n".join(lines)


def build(config: Config):
    """The kernel for one config. It is compiled here, so that compiling is not mistaken for running."""
    di, dj, dk = config["block_i"], config["block_j"], config["block_k"]
    first, second, third = config["order"]
    at_i, at_j, at_k = (config["order"].index(axis) for axis in range(3))
    pack = config["pack_b"]

    scope: dict = {}
    exec(block_source(config["unroll_i"], config["unroll_k"]), scope)
    block = njit(scope["block"])

    # numba freezes di, pack, … to constants: every config is machine code of its own.
    @njit(parallel=config["parallel"])
    def fill(a, b, out):
        blocks = (a.shape[0] // di, b.shape[1] // dj, b.shape[0] // dk)  # N is a multiple of every block size
        for x in prange(blocks[first]):
            for y in range(blocks[second]):
                for z in range(blocks[third]):
                    at = (x, y, z)
                    i, j, k = at[at_i] * di, at[at_j] * dj, at[at_k] * dk
                    if pack:
                        packed = b[k : k + dk, j : j + dj].copy()
                        block(a[:, k : k + dk], packed, out, i, i + di, j, j + dj, 0, dj)
                    else:
                        block(a[:, k : k + dk], b[k : k + dk], out, i, i + di, j, j + dj, j, j + dj)

    def product(a, b):
        out = np.full((a.shape[0], b.shape[1]), np.inf, np.float32)
        fill(a, b, out)
        return out

    product(a[:0], b[:, :0])  # no work at all, but of the same types
    return product


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same in numpy, one k at a time."""
    out = np.full((a.shape[0], b.shape[1]), np.inf, np.float32)
    for k in range(a.shape[1]):
        np.minimum(out, a[:, k, None] + b[k], out=out)
    return out


# A sum of two floats is rounded once and a minimum not at all: every config must agree to the last bit.
evaluator = CallableEvaluator(build, args=(a, b), reference=reference, rtol=0, atol=0, workers=2)
# In a minute random search does well. A third of it is kept for the finalists: built anew, timed beside the default.
budget, settings = Budget(evaluations=60, seconds=60), {"finalists": 3, "reserve": 0.33}
problem = Problem(space, evaluator, "random_search", budget=budget, settings=settings)

if __name__ == "__main__":
    result = tune(space, evaluator, "random_search", budget=budget, settings=settings)
    print(f"{result.evaluations} configs in {result.elapsed_s:.0f} s: {result.counts}")
    print(f"best     {result.best.time_ms:8.2f} ms  {result.best.config}")
    print(f"default  {result.default.time_ms:8.2f} ms  {result.speedup.value:.2f}x slower")
