"""The laws of the feasible set: it is what brute force finds, counted, listed in order, and sampled uniformly."""

import time
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autotune.core.cancellation import Cancelled, cancellable
from autotune.core.constraints import Constraint, Members, as_constraint
from autotune.core.constraints.verdicts import decode
from autotune.core.errors import SpaceError
from autotune.core.feasible import Feasible, filters, order
from autotune.core.feasible import enumerate as enumeration
from autotune.core.feasible import sample as sampling
from autotune.core.feasible.sample import Construction, Rejection, Tabled, choose_method, sample_component
from autotune.core.keys import Key, fold, root
from autotune.core.parameters import (
    PARAMETER_KINDS,
    Boolean,
    Choice,
    Codes,
    Integer,
    ListOf,
    OptionalOf,
    Parameter,
    Permutation,
    PowerOfTwo,
)
from autotune.core.points import codes_by_name
from autotune.testing import is_uniform

SAMPLES: dict[type, Parameter] = {
    PowerOfTwo: PowerOfTwo(1, 16),
    Integer: Integer(-2, 4),
    Choice: Choice((3, 1, 2)),
    Boolean: Boolean(),
    Permutation: Permutation(3),
    ListOf: ListOf(Integer(0, 2), 2),
    OptionalOf: OptionalOf(PowerOfTwo(1, 8)),
}
NUMBERS: dict[type, str] = {Permutation: "{}[0]", ListOf: "sum({})", OptionalOf: "({0} if {0} is not None else 0)"}


def number(name: str, parameter: Parameter) -> str:
    """An expression for a number that the parameter stands for."""
    return NUMBERS.get(type(parameter), "{}").format(name)


@st.composite
def spaces(draw: st.DrawFn) -> tuple[dict[str, Parameter], list[str]]:
    kinds = st.sampled_from([SAMPLES[kind] for kind in PARAMETER_KINDS])
    parameters = {f"x{i}": draw(kinds) for i in range(draw(st.integers(1, 5)))}
    term = st.sampled_from([number(name, parameter) for name, parameter in parameters.items()])
    shapes = [
        st.builds("{} * {} <= {}".format, term, term, st.sampled_from(["4", "8", "0"])),
        st.builds("{} + {} == {}".format, term, term, term),
        st.builds("{0} != 0 and {1} % {0} == 0".format, term, term),
        st.builds("{} < {} or {} > {}".format, term, term, term, term),
        st.builds("{} in (1, 2, 4)".format, term),
        st.just(f"{' + '.join(number(n, p) for n, p in parameters.items())} <= 6"),
        st.just(f"{' * '.join(number(n, p) for n, p in parameters.items())} % 3 == 0"),
    ]
    return parameters, draw(st.lists(st.one_of(shapes), max_size=4))


def everything(parameters: dict[str, Parameter]) -> Codes:
    """All points in lexicographic order, by brute force."""
    axes = [range(parameter.size) for parameter in parameters.values()]
    ranks = np.array(list(product(*axes)), np.int64)
    return np.concatenate([p.unrank(ranks[:, i]) for i, p in enumerate(parameters.values())], axis=1)


def brute(parameters: dict[str, Parameter], constraints: tuple[Constraint, ...]) -> Codes:
    """The valid points, each judged on its own as a row."""
    rows = everything(parameters)
    kept = [
        all(c.evaluate(row) for c in constraints)
        for row in decode(parameters, codes_by_name(parameters, parameters, rows))
    ]
    return rows[np.array(kept, bool)]


FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(spaces(), st.sampled_from(["tables", "bounds", "chunks"]))
def test_enumeration_is_brute_force(space: tuple[dict[str, Parameter], list[str]], how: str) -> None:
    parameters, texts = space
    assume(np.prod([parameter.size for parameter in parameters.values()]) <= 20_000)
    constraints = tuple(as_constraint(text, parameters) for text in texts)
    wanted = brute(parameters, constraints)
    with pytest.MonkeyPatch.context() as patch:
        if how != "tables":
            patch.setattr(filters, "FAST_TABLE", 0)
        feasible = Feasible(parameters, constraints)
        if how == "chunks":
            patch.setattr(enumeration.enumerate_points, "__defaults__", (3, None))
        if not len(wanted):
            with pytest.raises(SpaceError, match="no point"):
                feasible.rows()
            return
        np.testing.assert_array_equal(feasible.rows(), wanted)
        assert feasible.count() == len(wanted)
    drawn = feasible.sample(root(1), 50)
    kept = {tuple(row) for row in wanted.tolist()}
    assert all(tuple(row) in kept for row in drawn.tolist())
    every = everything(parameters)
    assert feasible.valid(every).tolist() == [tuple(row) in kept for row in every.tolist()]


@pytest.mark.parametrize("kind", PARAMETER_KINDS)
def test_every_kind_is_enumerated_in_order_and_sampled(kind: type[Parameter]) -> None:
    parameters: dict[str, Parameter] = {"a": SAMPLES[kind], "free": Boolean(), "b": SAMPLES[kind]}
    texts = ["a != b", f"{number('a', parameters['a'])} <= {number('b', parameters['b'])}"]
    constraints = tuple(as_constraint(text, parameters) for text in texts)
    feasible = Feasible(parameters, constraints)
    np.testing.assert_array_equal(feasible.rows(), brute(parameters, constraints))
    assert feasible.valid(feasible.sample(root(0), 100)).all()


@FEW
@given(spaces(), st.data())
def test_members_are_a_constraint_like_any_other(
    space: tuple[dict[str, Parameter], list[str]], data: st.DataObject
) -> None:
    parameters, texts = space
    assume(np.prod([parameter.size for parameter in parameters.values()]) <= 5_000)
    names = tuple(data.draw(st.lists(st.sampled_from(list(parameters)), min_size=1, unique=True)))
    some = {name: parameters[name].sample(fold(root(5), name), 12) for name in names}
    rows = np.concatenate([some[name] for name in names], axis=1)
    given_rows = {tuple(row) for row in rows.tolist()}
    texts_only = tuple(as_constraint(text, parameters) for text in texts)
    found = brute(parameters, texts_only)
    parts = codes_by_name(parameters, parameters, found)
    joined = np.concatenate([parts[name] for name in names], axis=1)
    wanted = found[[tuple(row) in given_rows for row in joined.tolist()]]
    constraints = (*texts_only, Members.of(parameters, names, rows))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            patch.setattr(filters, "FAST_TABLE", 0)  # too large for a table: the rows seed the search instead
        feasible = Feasible(parameters, constraints)
        if len(wanted):
            np.testing.assert_array_equal(feasible.rows(), wanted)
        else:
            with pytest.raises(SpaceError, match="no point"):
                feasible.count()


TRIANGLE: dict[str, Parameter] = {"a": Integer(0, 19), "b": Integer(0, 19), "c": Boolean()}


@pytest.mark.parametrize("how", ["tabled", "rejected"])
def test_sampling_is_uniform(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "rejected":
        monkeypatch.setattr(sampling, "SMALL", 0)
    feasible = Feasible(TRIANGLE, (as_constraint("a + b < 12 and (a > b or c)", TRIANGLE),))
    assert isinstance(feasible._methods[0], Tabled if how == "tabled" else Rejection)
    assert feasible.uniform
    count = feasible.count()
    assert count is not None
    assert is_uniform(feasible.sample(root(7), 100 * count), count)


def test_a_chi_square_would_notice() -> None:
    rows = np.arange(10_000)[:, None] ** 2 % 101
    assert not is_uniform(rows, 101)


def test_the_same_key_gives_the_same_points_whatever_was_asked_before() -> None:
    constraint = as_constraint("a * b % 7 == 3", TRIANGLE)
    fresh, used = Feasible(TRIANGLE, (constraint,)), Feasible(TRIANGLE, (constraint,))
    used.rows(), used.count(), used.sample(root(0), 3)
    np.testing.assert_array_equal(fresh.sample(root(9), 20), used.sample(root(9), 20))
    assert not np.array_equal(fresh.sample(root(9), 20), fresh.sample(root(8), 20))


RARE: list[tuple[str, dict[str, Parameter], list[str]]] = [
    (
        "equal sums: 1e15 raw, a few in 1e9 valid",
        {f"x{i}": Integer(1, 32) for i in range(10)},
        [
            "x0 * x1 == x2 * x3",
            "x2 + x3 == x4 + x5",
            "x4 * x5 == x6 * x7",
            "x6 + x7 + x8 + x9 == 100",
            "x8 % 5 == x9 % 7",
        ],
    ),
    (
        "a product over all names",
        {f"x{i}": Integer(1, 64) for i in range(8)},
        [" * ".join(f"x{i}" for i in range(8)) + " == 2 ** 24"],
    ),
    ("a wide range", {"a": Integer(1, 10**6), "b": Integer(1, 10**6)}, ["a == b * 3", "a % 1000 == 0"]),
]


@pytest.mark.parametrize(("name", "parameters", "texts"), RARE, ids=[name for name, _, _ in RARE])
def test_rare_points_are_found(name: str, parameters: dict[str, Parameter], texts: list[str]) -> None:
    feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
    drawn = feasible.sample(root(2), 20)
    assert drawn.shape == (20, len(parameters))
    assert feasible.valid(drawn).all()


@FEW
@given(spaces(), st.integers(0, 1000))
def test_construction_gives_valid_points(space: tuple[dict[str, Parameter], list[str]], seed: int) -> None:
    parameters, texts = space
    assume(texts and np.prod([parameter.size for parameter in parameters.values()]) <= 20_000)
    feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
    for component in feasible._components:
        if not component.constraints:
            continue
        try:
            choose_method(component)
        except SpaceError:  # no valid point: construction must find that out too
            with pytest.raises(SpaceError, match="no point"):
                sample_component(component, Construction(), Key(seed), 5)
        else:
            codes = sample_component(component, Construction(), Key(seed), 5)
            assert component.valid(codes).all()
            assert {len(part) for part in codes.values()} == {5}


WIDE_TERMS = [
    "a + b",
    "a - b",
    "a * b",
    "abs(a - b)",
    "a // 3 + b",
    "max(a, b) - c",
    "a % (2 ** 3 - 1) + b % 5",
    "2 * a - 3 * b",
]


@FEW
@given(
    st.lists(
        st.tuples(st.sampled_from(WIDE_TERMS), st.sampled_from(["==", "<=", ">"]), st.integers(-3, 40)), min_size=1
    ),
    st.integers(2, 5),
)
def test_ranges_bound_by_digits_give_what_brute_force_gives(parts: list[tuple[str, str, int]], radix: int) -> None:
    parameters: dict[str, Parameter] = {"a": Integer(0, 22), "b": Integer(-4, 26, step=3), "c": Integer(0, 3)}
    texts = [f"{term} {link} {value}" for term, link, value in parts[:3]]
    texts += [f"{parts[0][0]} in ({parts[0][2]}, {parts[-1][2]}, 9)"] * (radix % 2)
    constraints = tuple(as_constraint(text, parameters) for text in texts)
    wanted = brute(parameters, constraints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "FAST_TABLE", 0)
        patch.setattr(order, "WIDE", 1)
        patch.setattr(order, "RADIX", radix)
        patch.setattr(order, "solve_for", lambda name, equation: None)
        feasible = Feasible(parameters, constraints)
        if not len(wanted):
            with pytest.raises(SpaceError, match="no point"):
                feasible.rows()
            return
        np.testing.assert_array_equal(feasible.rows(), wanted)
        assert feasible.count() == len(wanted)
        for component in feasible._components:
            if component.constraints:
                assert component.valid(sample_component(component, Construction(), Key(3), 20)).all()


FAR = 2**40
SPARSE: list[tuple[dict[str, Parameter], list[str], int]] = [
    ({"p0": Integer(0, FAR), "p1": Integer(7, 7)}, ["p0 + p1 == 11"], 1),
    ({"p0": Integer(0, FAR), "p1": Integer(0, 15)}, ["p0 + p1 == 15"], 16),
    ({"p0": Integer(0, FAR), "p1": Integer(0, FAR)}, ["p0 + p1 < 5"], 15),
    ({"p0": Integer(0, FAR), "p1": Integer(0, FAR)}, ["3 * p0 + 5 * p1 == 1000"], 67),
    ({"p0": Integer(0, FAR), "p1": Integer(1, FAR)}, [f"abs(p0 - {FAR // 2}) <= 2", "p1 == p0"], 5),
    ({"p0": Integer(0, FAR, step=4), "p1": Integer(0, 3)}, ["p0 - 1000 * p1 == 8"], 4),
    ({"p0": Integer(-FAR, FAR), "p1": Integer(0, 3)}, ["p0 == -p1 - 5"], 4),
    ({"p0": Integer(0, FAR), "p1": Integer(0, 9)}, ["p0 % 2 ** 38 == p1", "p1 < 2"], 9),
    ({"p0": Integer(0, FAR), "p1": Integer(0, 9)}, ["p0 in (5, 7, 10 ** 9)", "p0 // (2 * 1000) >= p1"], 12),
]


@pytest.mark.parametrize(("parameters", "texts", "count"), SPARSE, ids=[" and ".join(texts) for _, texts, _ in SPARSE])
def test_the_few_points_of_a_wide_range_are_all_found(
    parameters: dict[str, Parameter], texts: list[str], count: int
) -> None:
    feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
    spent = enumeration.WorkBudget(200_000)
    found = enumeration.enumerate_points(feasible._components[0].order, feasible._packing, spent)
    assert sum(len(words[0]) for words in found) == count
    assert feasible.uniform
    assert feasible.count() == len(feasible.rows()) == count


def clauses(n: int, m: int, seed: int) -> tuple[dict[str, Parameter], list[str]]:
    """A random 3-SAT problem of n names and m clauses."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(m):
        names = random.choice(n, 3, replace=False).tolist()
        texts.append(" or ".join(f"x{i}" if random.random() < 0.5 else f"not x{i}" for i in names))
    return {f"x{i}": Boolean() for i in range(n)}, texts


def pigeons(n: int) -> tuple[dict[str, Parameter], list[str]]:
    """One more pigeon than there are holes."""
    pairs = [(i, j) for i in range(n) for j in range(i)]
    return {f"p{i}": Integer(1, n - 1) for i in range(n)}, [f"p{i} != p{j}" for i, j in pairs]


HARD = {"3-SAT": clauses(120, 510, 2), "pigeonhole": pigeons(20)}


@pytest.mark.parametrize("name", HARD)
def test_work_ends_when_the_check_of_its_caller_raises(name: str) -> None:
    parameters, texts = HARD[name]
    feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
    asked = []

    def refuse() -> None:
        asked.append(time.monotonic())
        if len(asked) == 40:
            raise Cancelled

    with pytest.raises(Cancelled), cancellable(refuse):
        feasible.sample(root(0), 1)
    assert len(asked) == 40


def test_long_points_take_a_bounded_stack_and_table() -> None:
    parameters: dict[str, Parameter] = {f"x{i}": Integer(1, 32) for i in range(250)}
    texts = [f"x{i} + x{i + 1} <= 34" for i in range(249)]
    feasible = Feasible(parameters, tuple(as_constraint(text, parameters) for text in texts))
    largest = 0
    tracemalloc.start()
    try:
        assert feasible.valid(feasible.sample(root(0), 4)).all()
        largest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert largest < 1.5e9
