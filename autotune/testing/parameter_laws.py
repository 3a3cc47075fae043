"""The laws of a parameter kind: its values, codes, ranks, samples, neighbours, differences and features."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.core.config import Value, freeze, token
from autotune.core.constraints import as_constraint
from autotune.core.feasible import Feasible
from autotune.core.keys import fold, integers, root
from autotune.core.parameters import Boolean, Codes, Column, ParameterKind
from autotune.testing.statistics import is_uniform

LISTABLE = 300
"""Of a kind with more values, so many are tried: the first, the last, and drawn ones."""

_FOREIGN: tuple[Value, ...] = (
    None, True, False, 0, 1, -1, 3, 2**70, 0.0, 1.0, -0.5, 1e300, "", "1", "auto", (), (0,), (1, 0), (0, 0), (None,),
    ("a", (1,)),
)  # fmt: skip
"""Values that a config may hold."""


def _fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


class ParameterLaws:
    """Law 6 for a parameter kind. Subclass it under a name that begins with `Test`, and define `make_parameters`:

        class TestMyKind(ParameterLaws):
            def make_parameters(self):
                return st.builds(MyKind, st.integers(1, 9))

    The parameters should be small: at most LISTABLE values, besides a few large ones.
    """

    def make_parameters(self) -> st.SearchStrategy[Any]:
        """A Hypothesis strategy of parameters of the kind."""
        raise NotImplementedError(f"{type(self).__name__} must define make_parameters(self)")

    @_fuzz(60)
    @given(data=st.data())
    def test_values_codes_and_ranks_are_one_to_one(self, data: st.DataObject) -> None:
        """decode, encode, rank and unrank are inverse to each other, and values are typed: 1, 1.0 and True differ."""
        parameter = data.draw(self.make_parameters())
        codes = some_codes(parameter)
        assert codes.shape == (len(codes), parameter.width)
        values = parameter.decode(codes)
        assert len(values) == len(codes)
        assert len({token(value) for value in values}) == len(values), "two codes of one value"
        for row, value in zip(codes.tolist(), values, strict=True):
            assert freeze(value) == value, f"{value!r} is no value of a config"
            assert tuple(parameter.encode(value)) == tuple(row), f"{value!r} is encoded otherwise than it is decoded"
        if parameter.size >= 2**63:
            return
        ranks = parameter.rank(codes)
        assert ranks.min() >= 0
        assert int(ranks.max()) < parameter.size
        assert len(np.unique(ranks)) == len(codes), "two values of one rank"
        assert (parameter.unrank(ranks) == codes).all()
        if parameter.size <= LISTABLE:
            assert sorted(ranks.tolist()) == list(range(parameter.size)), "size says otherwise"

    @_fuzz(60)
    @given(data=st.data())
    def test_other_values_are_refused(self, data: st.DataObject) -> None:
        """encode raises ValueError, in one line that names the allowed values, for everything but its values."""
        parameter = data.draw(self.make_parameters())
        for foreign in _FOREIGN:
            try:
                codes = parameter.encode(foreign)
            except ValueError as error:
                message = str(error)
                assert message, f"nothing is said of {foreign!r}"
                assert "\n" not in message
                continue
            (value,) = parameter.decode(np.array([codes], np.int64))
            assert token(value) == token(foreign), f"{foreign!r} was taken for {value!r}"

    @_fuzz(60)
    @given(data=st.data())
    def test_contains_knows_codes_from_other_integers(self, data: st.DataObject) -> None:
        parameter = data.draw(self.make_parameters())
        codes = some_codes(parameter)
        mask = parameter.contains(codes)
        assert mask.shape == (len(codes),)
        assert mask.all()
        if parameter.size > LISTABLE:
            return
        known = {tuple(row) for row in codes.tolist()}
        moved = np.concatenate([codes + step for step in (-1, 1, 2**40, -(2**40))] + [codes[:, ::-1]])
        moved = np.concatenate([moved, codes + integers(root(2), 3, codes.size).reshape(codes.shape) - 1])
        assert parameter.contains(moved).tolist() == [tuple(row) in known for row in moved.tolist()]

    @_fuzz(40)
    @given(data=st.data())
    def test_columns_hold_the_values(self, data: st.DataObject) -> None:
        """column is decode as arrays."""
        parameter = data.draw(self.make_parameters())
        codes = some_codes(parameter)
        found = list(_rows(parameter.column(codes), len(codes)))
        assert [token(value) for value in found] == [token(value) for value in parameter.decode(codes)]

    @_fuzz(25)
    @given(data=st.data())
    def test_samples_are_values_drawn_by_the_key_alone(self, data: st.DataObject) -> None:
        """Uniform, independent, the same for the same key, and others for another one."""
        parameter = data.draw(self.make_parameters())
        drawn = parameter.sample(root(3), 40)
        assert drawn.shape == (40, parameter.width)
        assert parameter.contains(drawn).all()
        assert (parameter.sample(root(3), 40) == drawn).all(), "the same key, and other samples"
        if parameter.size > 1:
            assert (parameter.sample(root(4), 40) != drawn).any(), "another key, and the same samples"
        if 1 < parameter.size <= 50:
            many = parameter.sample(root(7), 200 * parameter.size)
            assert is_uniform(many, parameter.size), "not uniform"

    @_fuzz(40)
    @given(data=st.data(), radius=st.integers(1, 3))
    def test_neighbours_are_symmetric_and_grow_with_the_radius(self, data: st.DataObject, radius: int) -> None:
        """Distinct values other than the one itself; none for radius 0."""
        parameter = data.draw(self.make_parameters())
        codes = some_codes(parameter)
        near = {
            tuple(row): parameter.neighbours(np.array(row), radius) for row in codes[:: 1 + len(codes) // 40].tolist()
        }
        for row, found in near.items():
            assert found.shape == (len(found), parameter.width)
            assert parameter.contains(found).all()
            others = [tuple(other) for other in found.tolist()]
            assert row not in others, "a value is a neighbour of itself"
            assert len(set(others)) == len(others), "a neighbour is there twice"
            wider = {tuple(other) for other in parameter.neighbours(np.array(row), radius + 1).tolist()}
            assert set(others) <= wider, "a larger radius, and a neighbour is missing"
            for other in others[:: 1 + len(others) // 8]:
                back = {tuple(one) for one in parameter.neighbours(np.array(other), radius).tolist()}
                assert row in back, "a neighbour of which the value is none"
            assert len(parameter.neighbours(np.array(row), 0)) == 0

    @_fuzz(40)
    @given(data=st.data())
    def test_every_value_can_be_reached_by_neighbours(self, data: st.DataObject) -> None:
        parameter = data.draw(self.make_parameters())
        if parameter.size > LISTABLE:
            return
        codes = [tuple(row) for row in some_codes(parameter).tolist()]
        reached, left = {codes[0]}, [codes[0]]
        while left:
            for other in map(tuple, parameter.neighbours(np.array(left.pop()), 1).tolist()):
                if other not in reached:
                    reached.add(other)
                    left.append(other)
        assert len(reached) == len(codes), "values that no path of neighbours reaches"

    @_fuzz(40)
    @given(data=st.data())
    def test_mutation_gives_values_and_no_difference_changes_nothing(self, data: st.DataObject) -> None:
        """mutate(a, b, c) is a + (b - c), by the key alone; where b is c, it is a."""
        parameter = data.draw(self.make_parameters())
        a, b, c = (parameter.sample(fold(root(5), name), 50) for name in "abc")
        for array in (a, b, c):
            array.setflags(write=False)
        moved = parameter.mutate(a, b, c, root(6))
        assert moved.shape == a.shape
        assert parameter.contains(moved).all()
        assert (parameter.mutate(a, b, c, root(6)) == moved).all(), "the same key, and another mutation"
        assert (parameter.mutate(a, b, b, root(6)) == a).all(), "no difference, and a change"

    @_fuzz(40)
    @given(data=st.data())
    def test_features_are_finite_and_tell_values_apart(self, data: st.DataObject) -> None:
        parameter = data.draw(self.make_parameters())
        codes = some_codes(parameter)
        features = parameter.encode_features(codes)
        assert features.shape == (len(codes), parameter.features)
        assert features.dtype == np.float64
        assert np.isfinite(features).all()
        if parameter.size <= LISTABLE:
            assert len(np.unique(features, axis=0)) == len(codes), "two values have the same features"

    @_fuzz(40)
    @given(data=st.data())
    def test_a_parameter_is_data(self, data: st.DataObject) -> None:
        """It is frozen, equal to its copy, written and read as JSON, and described in one line."""
        parameter = data.draw(self.make_parameters())
        fields = getattr(parameter, "__struct_fields__", None)
        assert fields is not None, "declare it as class …(msgspec.Struct, frozen=True, tag=…)"
        assert pickle.loads(pickle.dumps(parameter)) == parameter
        assert msgspec.json.decode(msgspec.json.encode(parameter), type=type(parameter)) == parameter
        assert isinstance(parameter.describe(), str)
        assert parameter.describe()
        assert "\n" not in parameter.describe()
        assert parameter.role is None or isinstance(parameter.role, str)
        assert parameter.size >= 1
        assert parameter.width >= 1
        with pytest.raises(AttributeError):
            setattr(parameter, (*fields, "anything")[0], None)

    @_fuzz(20)
    @given(data=st.data())
    def test_constraints_see_its_values(self, data: st.DataObject) -> None:
        """Two of a kind under `a != b`: enumeration agrees with brute force, and samples are valid."""
        parameter = data.draw(self.make_parameters())
        if not 1 < parameter.size <= 60:
            return
        codes = parameter.unrank(np.arange(parameter.size))
        values = parameter.decode(codes)
        wanted = [
            (*codes[i].tolist(), free, *codes[j].tolist())
            for i in range(len(codes))
            for free in (0, 1)
            for j in range(len(codes))
            if values[i] != values[j]
        ]
        if not wanted:  # all values are equal in Python, as True and 1 are
            return
        parameters: dict[str, Any] = {"a": parameter, "free": Boolean(), "b": parameter}
        feasible = Feasible(parameters, (as_constraint("a != b", parameters),))
        assert [tuple(row) for row in feasible.rows().tolist()] == wanted
        assert feasible.valid(feasible.sample(root(0), 30)).all()


def some_codes(parameter: ParameterKind) -> Codes:
    """The codes of all values in the order of their ranks, or of LISTABLE values of a larger kind."""
    if parameter.size <= LISTABLE:
        return parameter.unrank(np.arange(parameter.size))
    drawn = parameter.sample(root(1), LISTABLE - 2)
    if parameter.size < 2**63:
        ends = parameter.unrank(np.array([0, parameter.size - 1]))
        drawn = np.concatenate([ends, drawn])
    return np.unique(drawn, axis=0)


def _rows(column: Column, n: int) -> Iterator[Value]:
    """The values of a column of n, one by one."""
    if isinstance(column, tuple):
        parts = [list(_rows(part, n)) for part in column]
        yield from (tuple(part[i] for part in parts) for i in range(n))
    else:
        yield from column.tolist()
