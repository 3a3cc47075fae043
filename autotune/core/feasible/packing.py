"""Packed points: the ranks of all parameters as digits of a few 62-bit words, about 8 bytes a point.

Words compare as points do lexicographically, and a product of sets of points over different names is a sum of words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.core.parameters import Codes, Parameter
from autotune.core.points import Ranks

Words = list[Ranks]
"""n packed points: each word of all of them, shape [n], the most significant word first."""

WORD = 2**62
"""A word holds numbers below this; sums of two words fit int64."""


@dataclass(frozen=True, eq=False)
class Packing:
    """How the points of a space are packed.

    place: the word and the stride of its digit there, for each parameter that has ranks. words: their number.
    """

    parameters: Mapping[str, Parameter]
    place: Mapping[str, tuple[int, int]]
    words: int

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter]) -> "Packing":
        """Packs names from the last, which is the fastest digit of the last word, back to the first."""
        place: dict[str, tuple[int, int]] = {}
        back, stride = 0, 1
        for name in reversed(list(parameters)):
            size = parameters[name].size
            if size > WORD:
                continue  # it has no ranks, and no component that has it is enumerated
            if stride * size > WORD:
                back, stride = back + 1, 1
            place[name] = (back, stride)
            stride *= size
        in_order = [(name, *place[name]) for name in parameters if name in place]
        return cls(parameters, {name: (back - word, stride) for name, word, stride in in_order}, back + 1)

    def pack(self, ranks: Mapping[str, Ranks], n: int) -> Words:
        """The words of n points, zero but for the digits of these names, which are given by their ranks [n]."""
        packed = [np.zeros(n, np.int64) for _ in range(self.words)]
        for name, digits in ranks.items():
            word, stride = self.place[name]
            packed[word] = packed[word] + digits * stride
        return packed

    def ranks(self, name: str, words: Sequence[Ranks]) -> Ranks:
        """The ranks [n] of one parameter."""
        word, stride = self.place[name]
        found: Ranks = words[word] // stride % self.parameters[name].size
        return found

    def codes(self, name: str, words: Sequence[Ranks]) -> Codes:
        """The codes [n, width] of one parameter."""
        return self.parameters[name].unrank(self.ranks(name, words))

    def all_codes(self, words: Sequence[Ranks]) -> Iterator[tuple[str, Codes]]:
        """Every parameter that has ranks, with its codes [n, width], the last first: cheaper than one by one."""
        rest = list(words)
        for name in reversed(list(self.place)):
            word, size = self.place[name][0], self.parameters[name].size
            above = rest[word] // size  # a division and a product cost a fraction of a remainder
            yield name, self.parameters[name].unrank(rest[word] - above * size)
            rest[word] = above


def sort_points(words: Words) -> Words:
    """Distinct points in lexicographic order."""
    if len(words) > 1:
        order = np.lexsort(words[::-1])
        return [word[order] for word in words]
    (only,) = words
    return [only] if (only[1:] > only[:-1]).all() else [np.sort(only)]


def cartesian_product(first: Words, second: Words) -> Words:
    """Every point of one set joined with every point of another, over different names."""
    return [(a[:, None] + b[None, :]).reshape(-1) for a, b in zip(first, second, strict=True)]
