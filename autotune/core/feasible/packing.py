"""How points are packed: the ranks of all parameters as digits of a few 62-bit words, about 8 bytes a point.

Words compare as points do lexicographically, and a product of sets of points is a sum of words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.core.parameters import Codes, Parameter

Ranks = NDArray[np.int64]
WORD = 2**62
DENSE, MARKS = 64, 1 << 28


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

    def all_codes(self, words: Sequence[Ranks]) -> Iterator[tuple[str, Codes]]:
        """Every parameter that has ranks, with its codes [n, width]; the last one first. Cheaper than one by one."""
        rest = list(words)
        for name in reversed(list(self.place)):
            word, size = self.place[name][0], self.parameters[name].size
            above = rest[word] // size  # a division and a product cost a fraction of a remainder
            yield name, self.parameters[name].unrank(rest[word] - above * size)
            rest[word] = above

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
    in_turn = [(name, *place[name]) for name in parameters if name in place]
    return Layout(parameters, {name: (back - word, stride) for name, word, stride in in_turn}, back + 1)


def in_order(words: list[Ranks]) -> list[Ranks]:
    """Distinct points sorted lexicographically; sorting is skipped where they are in order already."""
    if len(words) == 1:
        only = words[0]
        if (only[1:] > only[:-1]).all():
            return [only]
        low, high = int(only.min()), int(only.max())
        if high - low < min(DENSE * len(only), MARKS):  # distinct and dense: marking them beats comparing them
            marks = np.zeros(high - low + 1, bool)
            marks[only - low] = True
            return [np.flatnonzero(marks) + low]
        return [np.sort(only)]
    order = np.lexsort(words[::-1])
    return [word[order] for word in words]


def product(first: list[Ranks], second: list[Ranks]) -> list[Ranks]:
    """Every point of one set joined with every point of another, over different names."""
    return [(a[:, None] + b[None, :]).reshape(-1) for a, b in zip(first, second, strict=True)]
