"""How points are packed: the ranks of all parameters as digits of a few 62-bit words, about 8 bytes a point.

Words compare as points do lexicographically, and a product of sets of points is a sum of words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters import Codes, Parameter

Ranks = NDArray[np.int64]
WORD = 2**62


@dataclass(frozen=True, eq=False)
class Layout:
    """place: for each name that has ranks, its word and the stride of its digit there. words: how many there are."""

    parameters: Mapping[str, Parameter]
    place: Mapping[str, tuple[int, int]]
    words: int

    def pack(self, names: Sequence[str], ranks: Mapping[str, Ranks], n: int) -> list[Ranks]:
        """The words of n points, zero but for the digits of these names."""
        packed = [np.zeros(n, np.int64) for _ in range(self.words)]
        for name in names:
            word, stride = self.place[name]
            packed[word] = packed[word] + ranks[name] * stride
        return packed

    def ranks(self, name: str, words: Sequence[Ranks]) -> Ranks:
        """The ranks of one parameter, shape [n]."""
        word, stride = self.place[name]
        found: Ranks = words[word] // stride % self.parameters[name].size
        return found

    def codes(self, name: str, words: Sequence[Ranks]) -> Codes:
        """The codes of one parameter, shape [n, width]."""
        return self.parameters[name].unrank(self.ranks(name, words))


def layout(parameters: Mapping[str, Parameter]) -> Layout:
    """Names packed from the last, the fastest digit of the last word, back to the first."""
    place: dict[str, tuple[int, int]] = {}
    back, stride = 0, 1
    for name in reversed(list(parameters)):
        size = parameters[name].size
        if size > WORD:
            continue  # it has no ranks; nothing that enumerates may touch it
        if stride * size > WORD:
            back, stride = back + 1, 1
        place[name] = (back, stride)
        stride *= size
    return Layout(parameters, {name: (back - word, stride) for name, (word, stride) in place.items()}, back + 1)


def in_order(words: list[Ranks]) -> list[Ranks]:
    """The points sorted lexicographically; sorting is skipped where they are in order already."""
    if len(words) == 1:
        only = words[0]
        return [only] if (only[1:] > only[:-1]).all() else [np.sort(only)]
    order = np.lexsort(words[::-1])
    return [word[order] for word in words]


def product(first: list[Ranks], second: list[Ranks]) -> list[Ranks]:
    """Every point of one set joined with every point of another, over different names."""
    return [(a[:, None] + b[None, :]).reshape(-1) for a, b in zip(first, second, strict=True)]
