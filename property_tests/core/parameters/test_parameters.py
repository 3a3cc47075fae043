"""Every parameter kind keeps the laws of parameter kinds, small ones and huge ones."""

from typing import Any

import pytest
from hypothesis import strategies as st

from autotune.core.parameters import PARAMETER_KINDS, Choice, Integer, ListOf, OptionalOf, Permutation, PowerOfTwo
from autotune.testing import ParameterLaws, parameters_of_kind

LARGE: dict[type, tuple[Any, ...]] = {
    PowerOfTwo: (PowerOfTwo(1, 2**62),),
    Integer: (Integer(0, 10**9), Integer(-(2**62), 2**62 - 2, step=3)),
    Choice: (Choice(tuple(range(500))), Choice(tuple(range(500)), ordered=True)),
    Permutation: (Permutation(9), Permutation(40)),
    ListOf: (ListOf(Integer(1, 1000), 3), ListOf(OptionalOf(PowerOfTwo(1, 64)), 9)),
    OptionalOf: (OptionalOf(Integer(1, 10**6)), OptionalOf(Permutation(6), special="auto")),
}


class TestParameterKinds(ParameterLaws):
    kind: type

    @pytest.fixture(autouse=True, params=PARAMETER_KINDS, ids=lambda kind: kind.__name__)
    def _each(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param

    def make_parameters(self) -> st.SearchStrategy[Any]:
        small = parameters_of_kind(self.kind)
        return small | small | st.sampled_from(LARGE[self.kind]) if self.kind in LARGE else small
