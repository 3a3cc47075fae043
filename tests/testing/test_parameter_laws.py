"""The suite for parameter kinds: an honest one of somebody else passes it, and every planted fault breaks its law."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from msgspec import Struct

from autotune.core.keys import Key, integers
from autotune.core.parameters import Codes
from autotune.testing import ParameterLaws
from tests.testing.runner import break_of


class Multiple(Struct, frozen=True, tag="multiple_of_tests"):
    """An honest kind: the multiples 0, step, …, (count - 1) * step."""

    step: int = 4
    count: int = 5
    role: str | None = None

    width = property(lambda self: 1)
    size = property(lambda self: self.count)
    features = property(lambda self: 1)

    def decode(self, codes: Codes) -> list[Any]:
        values: list[Any] = self.column(codes).tolist()
        return values

    def encode(self, value: Any) -> tuple[int, ...]:
        if type(value) is not int or value % self.step or not 0 <= value // self.step < self.count:
            raise ValueError(f"a multiple of {self.step} below {self.step * self.count}")
        return (value // self.step,)

    def contains(self, codes: Codes) -> Any:
        return (codes[:, 0] >= 0) & (codes[:, 0] < self.count)

    def column(self, codes: Codes) -> Any:
        return codes[:, 0] * self.step

    def rank(self, codes: Codes) -> Any:
        return codes[:, 0]

    def unrank(self, ranks: Any) -> Codes:
        codes: Codes = ranks[:, None]
        return codes

    def sample(self, key: Key, n: int) -> Codes:
        return integers(key, self.count, n)[:, None]

    def neighbours(self, codes: Codes, radius: int) -> Codes:
        near = np.arange(max(0, int(codes[0]) - radius), min(self.count - 1, int(codes[0]) + radius) + 1)
        others: Codes = near[near != codes[0]][:, None]
        return others

    def mutate(self, a: Codes, b: Codes, c: Codes, key: Key) -> Codes:
        moved: Codes = np.clip(a + np.sign(b - c), 0, self.count - 1)
        return moved

    def encode_features(self, codes: Codes) -> Any:
        return codes.astype(np.float64)

    def describe(self) -> str:
        return f"multiples of {self.step} below {self.step * self.count}"


class Laws(ParameterLaws):
    kind: type = Multiple

    def make_parameters(self) -> st.SearchStrategy[Any]:
        return st.builds(self.kind, st.integers(2, 5), st.integers(3, 12))


class TestAnHonestKind(Laws):
    pass


def changed(**methods: Any) -> type:
    """The honest kind with other methods."""
    kind: type = type("Changed", (Multiple,), methods, frozen=True)  # type: ignore[call-overload]
    return kind


class Unfrozen(Multiple, frozen=False):
    """It can be changed."""


class TwoLines(Multiple, frozen=True):
    """Its description is too long."""

    def describe(self) -> str:
        return "two\nlines"


def refuse_silently(self: Multiple, value: Any) -> tuple[int, ...]:
    raise ValueError("")


def decode_well(self: Multiple, codes: Codes) -> list[Any]:
    values: list[Any] = (codes[:, 0] * self.step).tolist()
    return values


FAULTS = [
    ("test_values_codes_and_ranks_are_one_to_one", changed(decode=lambda self, codes: [0] * len(codes)), "one value"),
    ("test_values_codes_and_ranks_are_one_to_one", changed(encode=lambda self, value: (0,)), "encoded otherwise"),
    ("test_values_codes_and_ranks_are_one_to_one", changed(rank=lambda self, codes: codes[:, 0] * 0), "one rank"),
    ("test_values_codes_and_ranks_are_one_to_one", changed(rank=lambda self, codes: codes[:, 0] + 1), ""),
    ("test_values_codes_and_ranks_are_one_to_one", changed(unrank=lambda self, ranks: ranks[:, None] * 0), ""),
    ("test_values_codes_and_ranks_are_one_to_one", changed(size=property(lambda self: self.count + 1)), ""),
    ("test_values_codes_and_ranks_are_one_to_one", changed(width=property(lambda self: 2)), ""),
    ("test_other_values_are_refused", changed(encode=lambda self, value: (int(bool(value)),)), "was taken for"),
    ("test_other_values_are_refused", changed(encode=lambda self, value: (value // self.step,)), ""),
    ("test_other_values_are_refused", changed(encode=refuse_silently), "said"),
    ("test_contains_knows_codes_from_other_integers", changed(contains=lambda self, c: c[:, 0] >= 0), ""),
    ("test_contains_knows_codes_from_other_integers", changed(contains=lambda self, c: c >= 0), ""),
    ("test_columns_hold_the_values", changed(column=lambda self, codes: codes[:, 0] * 1.0, decode=decode_well), ""),
    ("test_samples_are_values_drawn_by_the_key_alone", changed(sample=lambda s, k, n: integers(k, 99, n)[:, None]), ""),
    ("test_samples_are_values_drawn_by_the_key_alone",
     changed(sample=lambda self, key, n: np.random.default_rng().integers(0, self.count, (n, 1))), "other samples"),
    ("test_samples_are_values_drawn_by_the_key_alone",
     changed(sample=lambda self, key, n: integers(Key(1), self.count, n)[:, None]), "the same samples"),
    ("test_samples_are_values_drawn_by_the_key_alone",
     changed(sample=lambda self, key, n: np.minimum(integers(key, self.count, n), 1)[:, None]), "not uniform"),
    ("test_neighbours_are_symmetric_and_grow_with_the_radius",
     changed(neighbours=lambda self, codes, radius: np.arange(min(int(codes[0]), radius))[:, None]), ""),
    ("test_neighbours_are_symmetric_and_grow_with_the_radius",
     changed(neighbours=lambda self, codes, radius: np.arange(self.count)[:, None]), "of itself"),
    ("test_neighbours_are_symmetric_and_grow_with_the_radius",
     changed(neighbours=lambda self, code, radius: np.array([[c] for c in range(self.count) if c != code[0]])), "== 0"),
    ("test_every_value_can_be_reached_by_neighbours",
     changed(neighbours=lambda self, codes, radius: np.empty((0, 1), np.int64)), "no path"),
    ("test_mutation_gives_values_and_no_difference_changes_nothing",
     changed(mutate=lambda self, a, b, c, key: a + b - c), ""),
    ("test_mutation_gives_values_and_no_difference_changes_nothing",
     changed(mutate=lambda self, a, b, c, key: b), "no difference"),
    ("test_features_are_finite_and_tell_values_apart",
     changed(encode_features=lambda self, codes: np.zeros((len(codes), 1))), "same features"),
    ("test_features_are_finite_and_tell_values_apart",
     changed(encode_features=lambda self, codes: np.full((len(codes), 1), np.nan)), ""),
    ("test_a_parameter_is_data", Unfrozen, "DID NOT RAISE"),
    ("test_a_parameter_is_data", TwoLines, ""),
    ("test_constraints_see_its_values", changed(column=lambda self, codes: codes[:, 0] * 0, decode=decode_well), ""),
]  # fmt: skip


@pytest.mark.parametrize(("law", "kind", "words"), FAULTS, ids=lambda part: part if isinstance(part, str) else "")
def test_a_planted_fault_breaks_its_law(law: str, kind: type, words: str, tmp_path: Path) -> None:
    suite = type("Suite", (Laws,), {"kind": kind})
    error = break_of(suite, law, tmp_path)
    assert error is not None
    assert words in str(error)


@pytest.mark.parametrize("law", sorted({law for law, _, _ in FAULTS} - {"test_a_parameter_is_data"}))
def test_an_honest_kind_breaks_none(law: str, tmp_path: Path) -> None:
    """The runner itself breaks nothing."""
    assert break_of(TestAnHonestKind, law, tmp_path) is None
