"""How alike points are to a forest: the share of its trees in which they fall into the same leaf (Breiman 2001)."""

import numpy as np
from numpy.typing import NDArray

from autotune.core.forest.arrays import Features, Forest

ROWS = 2048
"""So many points are compared with all at a time: a block of so many rows of the answer stays in the cache."""


def compute_leaf_similarity(forest: Forest, points: Features) -> NDArray[np.float64]:
    """The share of trees in which points [n, features] fall into the same leaf: shape [n, n], 1 on the diagonal."""
    leaves = forest.leaves(points)
    local = np.ascontiguousarray((leaves - forest.roots).T)  # [trees, n], small numbers compare faster
    if local.max(initial=0) < 2**16:
        local = local.astype(np.uint16)
    n, trees = leaves.shape
    similarity = np.empty((n, n))
    for start in range(0, n, ROWS):
        block = slice(start, min(start + ROWS, n))
        shared = np.zeros((block.stop - start, n), np.uint32)
        for tree in local:
            shared += tree[block, None] == tree[None, :]
        similarity[block] = shared / trees
    return similarity


def similarity_to(leaves: NDArray[np.int64], one: int) -> NDArray[np.float64]:
    """The similarity [n] of points to one of them, where their leaves [n, trees] are known."""
    shared: NDArray[np.float64] = (leaves == leaves[one]).mean(axis=1)
    return shared
