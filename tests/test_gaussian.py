"""The Gaussian process and the strategy that goes by it: against closed forms, differences and brute force."""

import math
from itertools import combinations

import numpy as np
import pytest

from autotune import (
    Boolean,
    Budget,
    Choice,
    Config,
    Failed,
    Integer,
    ListOf,
    OptionalOf,
    Permutation,
    PowerOfTwo,
    SimulatedEvaluator,
    Space,
    Timed,
)
from autotune.core.keys import root, uniform
from autotune.core.models.acquisition import choose_batch, expected_improvement, normal_cdf
from autotune.core.models.gp import Hyperparameters, TrainingInputs, _negative_log_posterior, condition, fit, invert_lower, matern52, prior_hyperparameters, order_weights
from autotune.core.models.gp_features import feature_map
from autotune.core.parameters import BLOCK_SIZE, NUM_WARPS
from autotune.core.strategies.design import draw_design
from autotune.core.strategies.gaussian_process import probability_to_work, fit_hyperparameters, select_informative, standardised_log_times
from autotune.core.strategies.proposals import RADIUS, combine_moves, count_affordable, propose_candidates, transplant
from autotune.core.strategies.protocol import Seeds
from autotune.core.strategies.registry import STRATEGIES
from autotune.shell.tuning import tune

INPUTS = uniform(root(1), 30, 3)
TARGETS = np.sin(5 * INPUTS[:, 0]) + INPUTS[:, 1]
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std()
BLOCKS = np.array([0, 1, 1])  # the last two features belong to one axis


@pytest.mark.parametrize("blocks", [BLOCKS, np.arange(3), np.zeros(3, np.int64)])
def test_the_gradient_is_that_of_the_loss(blocks: np.ndarray) -> None:
    first, second = np.tril_indices(len(INPUTS), -1)
    squares = np.square(INPUTS[first] - INPUTS[second]).T
    theta, share = np.array([-0.3, 0.2, 0.9, 0.1, -3.0]), order_weights(int(blocks.max()) + 1, 30)
    _, gradient = _negative_log_posterior(theta, squares, TARGETS, blocks, share)
    for i in range(len(theta)):
        step = np.eye(len(theta))[i] * 1e-5
        above, below = (_negative_log_posterior(theta + way * step, squares, TARGETS, blocks, share)[0] for way in (1, -1))
        rise = (above - below) / 2e-5
        assert gradient[i] == pytest.approx(rise, rel=1e-4, abs=1e-4)


def test_fitting_finds_the_feature_that_does_not_matter() -> None:
    hyper = fit(prior_hyperparameters(3), INPUTS, TARGETS, np.arange(3), 60, 30)
    assert hyper.log_lengths[2] > hyper.log_lengths[0] + 0.5
    assert fit(prior_hyperparameters(3), INPUTS, TARGETS, np.arange(3), 60, 30).log_lengths.tolist() == hyper.log_lengths.tolist()


def test_it_passes_through_what_it_knows_and_doubts_what_is_far() -> None:
    known = TrainingInputs(Hyperparameters(np.zeros(3), 0.0, -9.0, 30), INPUTS, BLOCKS)
    process = condition(known, 1.0, 1e-6, TARGETS)
    mean, deviation, _ = process.predict(known.own)
    assert mean == pytest.approx(TARGETS, abs=1e-2)
    assert deviation.max() < 0.05
    far_mean, far_deviation, _ = process.predict(known.correlation(np.full((1, 3), 500.0)))
    assert (far_mean[0], far_deviation[0]) == pytest.approx((0.0, 1.0), abs=1e-6)


def by_hand(a: np.ndarray, b: np.ndarray, lengths: np.ndarray, blocks: np.ndarray, together: float) -> float:
    """The correlation as its definition has it: the means over all axes, all pairs, all triples, and the whole."""
    squares = np.square((a - b) / lengths)
    sums = np.array([squares[blocks == axis].sum() for axis in range(blocks.max() + 1)] + [squares.sum()])
    *each, whole = matern52(sums).tolist()
    found = together * whole
    for order in (1, 2, 3):
        products = [math.prod(some) for some in combinations(each, order)]
        found += (1 - together) / 3 * (sum(products) / len(products) if products else whole)
    return float(found)


@pytest.mark.parametrize(
    "blocks", [[0, 0, 0, 0, 0], [0, 1, 1, 1, 1], [0, 0, 1, 2, 2], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4]]
)
@pytest.mark.parametrize(("known_points", "together"), [(0, 0.0), (100, 0.25), (300, 0.375)])
def test_the_correlation_is_that_of_axes_of_pairs_and_triples_of_them_and_of_the_whole(
    blocks: list[int], known_points: int, together: float
) -> None:
    of_axes, log_lengths = np.array(blocks), np.array([-0.5, 0.1, 0.4, 0.0, 0.8])
    inputs = uniform(root(2), 20, 5)
    some = np.round(inputs[:8], 1)  # so that values occur twice
    known = TrainingInputs(Hyperparameters(log_lengths, 0.0, -9.0, known_points), some, of_axes)
    found = known.correlation(inputs)
    for i, a in enumerate(inputs):
        for j, b in enumerate(some):
            assert found[i, j] == pytest.approx(by_hand(a, b, np.exp(log_lengths), of_axes, together), abs=1e-9)
    for j, b in enumerate(some):
        assert known.correlation_with(inputs, b) == pytest.approx(found[:, j], abs=1e-9)


def test_the_normal_distribution_is_that_of_the_library() -> None:
    z = np.linspace(-6, 6, 101)
    assert normal_cdf(z) == pytest.approx([0.5 * math.erfc(-x / math.sqrt(2)) for x in z], abs=2e-7)


def test_expected_improvement_is_the_mean_of_what_is_drawn() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    expected = np.maximum(0.2 - drawn, 0).mean()
    assert expected_improvement(np.array([0.3]), np.array([0.5]), 0.2)[0] == pytest.approx(expected, rel=0.01)


def test_a_batch_is_spread_out_and_never_what_is_under_way() -> None:
    known = TrainingInputs(Hyperparameters(np.full(3, -1.0), 0.0, -9.0, 30), INPUTS, BLOCKS)
    process = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(2), 200, 3)
    best = float(TARGETS.min())
    alone = choose_batch(process, points, known.correlation(points), np.zeros(200), np.ones(200), best, 6, 0)
    assert len(set(alone)) == 6
    first = np.concatenate([points[alone[:1]], points])
    beside = choose_batch(process, first, known.correlation(first), np.zeros(201), np.ones(201), best, 3, 1)
    assert 0 not in beside
    assert beside[0] - 1 == alone[1], "what is under way counts as picked"


@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("n", [1, 5])
def test_looking_at_few_candidates_picks_what_looking_at_all_does(
    monkeypatch: pytest.MonkeyPatch, n: int, taken: int
) -> None:
    known = TrainingInputs(Hyperparameters(np.full(3, -1.0), 0.0, -9.0, 30), INPUTS, BLOCKS)
    process = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(5), 3000, 3)
    factor, best = uniform(root(6), 3000, 1)[:, 0], float(TARGETS.min())
    found = []
    for followed in (1, 12, 3000):  # the least one is too few for any batch, so that it must look again
        monkeypatch.setattr("autotune.core.models.acquisition.SHORTLIST", followed)
        found.append(choose_batch(process, points, known.correlation(points), np.zeros(3000), factor, best, n, taken))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == n


def test_where_nothing_promises_anything_a_batch_is_full_all_the_same() -> None:
    known = TrainingInputs(Hyperparameters(np.full(3, -1.0), 0.0, -9.0, 30), INPUTS, BLOCKS)
    process = condition(known, 1.0, 1e-4, TARGETS)
    points = uniform(root(2), 100, 3)
    picks = choose_batch(process, points, known.correlation(points), np.zeros(100), np.ones(100), -1e6, 8, 0)
    assert sorted(set(picks)) == picks == list(range(8))
    few = choose_batch(process, points[:5], known.correlation(points[:5]), np.zeros(5), np.ones(5), 0.0, 8, 2)
    assert sorted(few) == [2, 3, 4]


@pytest.mark.parametrize("n", [1, 2, 40, 41, 100, 137])
def test_the_inverse_of_a_triangular_matrix(n: int) -> None:
    square = uniform(root(n), n, n) - 0.5
    factor = np.linalg.cholesky(square @ square.T + n * np.eye(n))
    inverse = invert_lower(factor)
    assert inverse @ factor == pytest.approx(np.eye(n), abs=1e-10)
    assert (np.triu(inverse, 1) == 0).all()


def test_what_is_kept_is_the_best_and_an_even_choice_of_the_rest() -> None:
    times = np.arange(1.0, 101.0)
    kept = select_informative(np.ones(100, bool), times, 20)
    assert len(set(kept.tolist())) == 20
    assert kept[:10].tolist() == list(range(10))
    assert kept[-1] > 80


def test_targets_keep_the_order_and_bear_any_time() -> None:
    times, ok = np.array([1e-300, 1.0, 1e300, 2.0, 5.0]), np.array([True, True, True, False, True])
    targets = standardised_log_times(times, ok)
    assert np.isfinite(targets).all()
    assert targets[0] < targets[1] < targets[4] < targets[2]
    assert standardised_log_times(np.ones(3), np.ones(3, bool)).tolist() == [0, 0, 0]


def test_failures_are_learned_where_they_are() -> None:
    ok = INPUTS[:, 0] < 0.5
    known = TrainingInputs(Hyperparameters(np.full(3, -1.0), 0.0, -9.0, 30), INPUTS, BLOCKS)
    correlation = known.correlation(np.array([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5]]))
    chance = probability_to_work(known, ok, correlation)
    assert chance[0] > 0.8
    assert chance[1] < 0.3
    assert probability_to_work(known, np.ones(30, bool), known.own).tolist() == [1.0] * 30


def test_the_hyper_parameters_depend_on_the_first_observations_alone() -> None:
    ok = np.ones(30, bool)
    times = np.exp(TARGETS)

    def lengths(n: int) -> list[float]:
        return fit_hyperparameters(INPUTS[:n], times[:n], ok[:n], BLOCKS, np.zeros(n)).log_lengths.tolist()

    assert lengths(30) == lengths(29)  # they lie between two fits
    assert lengths(3) == prior_hyperparameters(3).log_lengths.tolist()
    assert lengths(30) != lengths(20)


SPACE = Space(
    {
        "m": PowerOfTwo(1, 1024, role="block_size"),
        "n": PowerOfTwo(1, 1024, role="block_size"),
        "order": Permutation(3),
        "mode": Choice(("a", "b", "c")),
        "pack": Boolean(),
    },
    ["m * n <= 2**16"],
    default={"m": 1, "n": 1, "order": (0, 1, 2), "mode": "a", "pack": False},
)


class Bowl:
    """Fastest at m = 64, n = 128, order (2, 0, 1), mode b, packed; large blocks fail in mode c."""

    def outcome(self, config: Config) -> Timed | Failed:
        if config["mode"] == "c" and config["m"] > 128:
            return Failed("run_error", "too large")
        time = 1 + abs(math.log2(config["m"] / 64)) + 0.5 * abs(math.log2(config["n"] / 128))
        time += 0.3 * sum(x != y for x, y in zip(config["order"], (2, 0, 1), strict=True))
        return Timed((time + (config["mode"] != "b") + 0.4 * (not config["pack"]),), 0.1, 0.1)

    def samples(self, config: Config) -> np.ndarray:
        return np.empty(0)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_best_of_thousands_in_a_few_dozen(seed: int) -> None:
    found = tune(
        SPACE, SimulatedEvaluator(Bowl(), batch=5), "gaussian_process", budget=Budget(evaluations=80), seed=seed,
        settings={"simplify_rounds": 0},
    )  # fmt: skip
    assert found.best.time_ms <= 1.5


def test_axes_know_what_numbers_are_like() -> None:
    space = Space(
        {
            "warps": PowerOfTwo(1, 8),
            "block": Integer(16, 256, step=16),
            "tile": Choice((1, 2, 4)),
            "mode": Choice(("a", "b", "c")),
            "fixed": Integer(3, 3),
            "loops": ListOf(Integer(0, 4), 2),
            "pieces": OptionalOf(Integer(1, 5)),
            "order": Permutation(3),
            "huge": Integer(1, 10**12),
        }
    )
    axes = feature_map(space)
    assert axes.names == ("warps", "block", "tile", "mode", "loops[0]", "loops[1]", "pieces", "order", "huge")
    assert np.bincount(axes.blocks).tolist() == [1, 2, 1, 3, 1, 1, 2, 3, 2]
    features = axes.of(space.sample(root(5), 300))
    assert features.shape == (300, 16)
    assert features.min() >= 0
    assert features.max() <= 1
    default = dict(space.decode(space.sample(root(6), 1))[0])

    def at(**values: object) -> list[float]:
        return axes.of(space.encode([{**default, **values}]))[0].tolist()

    assert at(block=64)[1:3] == pytest.approx([0.2, 0.5])
    assert at(block=256)[1:3] == pytest.approx([1.0, 1.0])
    assert at(tile=2)[3] == pytest.approx(0.5)
    assert at(pieces=None)[9:11] == [0.0, 0.0]
    assert at(pieces=5)[9:11] == [1.0, 1.0]
    assert at(huge=10**6)[14] == pytest.approx(0.5)


def test_a_space_of_one_point_has_no_axis() -> None:
    space = Space({"only": Integer(3, 3)})
    assert feature_map(space).of(space.rows()).tolist() == [[0.0]]


def test_moves_around_a_point_keep_each_parameter_whole() -> None:
    row = SPACE.sample(root(3), 1)[0]
    near = combine_moves(SPACE, row[None], 500, root(4))
    assert len(SPACE.decode(near)) == len(near)
    for config in SPACE.decode(near):
        assert sorted(config["order"]) == [0, 1, 2]
    changed = np.array([[(r[p] != row[p]).any() for p in SPACE.slices.values()] for r in near]).sum(axis=1)
    assert set(changed.tolist()) <= {1, 2}


def test_what_is_around_several_points_is_what_is_around_each() -> None:
    rows = SPACE.sample(root(3), 3)
    single = [SPACE.neighbours(row, RADIUS) for row in rows]
    near = combine_moves(SPACE, rows, 0, root(4))
    assert near.tolist() == np.concatenate(single).tolist()
    assert len(combine_moves(SPACE, rows, 10, root(4))) == len(near) + 30
    assert combine_moves(SPACE, rows[:0], 10, root(4)).shape == (0, SPACE.columns)


def test_values_from_elsewhere_take_one_or_two_places() -> None:
    row = SPACE.sample(root(3), 1)[0]
    rows = transplant(SPACE, row, SPACE.sample(root(5), 400), root(4))
    changed = np.array([[(r[p] != row[p]).any() for p in SPACE.slices.values()] for r in rows]).sum(axis=1)
    assert set(changed.tolist()) == {0, 1, 2}
    assert len(SPACE.decode(rows)) == 400


def test_the_design_is_even_and_its_halves_are_middle_and_far() -> None:
    space = Space({"block": Integer(16, 1024, step=16), "tile": PowerOfTwo(1, 64), "deep": PowerOfTwo(1, 64)})
    axes = feature_map(space)
    assert axes.even.tolist() == [1]
    points = draw_design(space, axes, space.sample(root(1), 0), 8, root(2))
    assert len({row.tobytes() for row in points}) == 8
    blocks = [config["block"] for config in space.decode(points)]
    assert all(block % 64 == 0 for block in blocks), "a quarter of all numbers are multiples of 64"
    features = axes.of(points)
    outwards = np.square(features - features.mean(axis=0)).sum(axis=1)
    assert outwards[0::2].mean() < outwards[1::2].mean()


def test_the_design_of_tiles_and_warps_goes_from_the_default_outwards_and_has_no_corners() -> None:
    tile = {name: PowerOfTwo(1, 256, role=BLOCK_SIZE) for name in ("BLOCK_M", "BLOCK_N")}
    default = {"BLOCK_M": 32, "BLOCK_N": 16, "num_warps": 4, "GROUP": 2}
    space = Space({**tile, "num_warps": PowerOfTwo(1, 32, role=NUM_WARPS), "GROUP": PowerOfTwo(1, 16)}, [], default)
    axes, known = feature_map(space), space.encode([default])
    for given in (known, known[:0]):
        features = axes.of(draw_design(space, axes, given, 8, root(2)))
        origin = features[0] if len(given) else axes.of(space.sample(root(3), 2000)).mean(axis=0)
        outwards = np.square(features - origin).sum(axis=1)
        assert len(features) == 8
        assert outwards[1:4].mean() < outwards[4:].mean()
        assert not ((features < 0.05) | (features > 0.95)).all(axis=1).any()
        assert np.square(features - 0.5).sum(axis=1).mean() < np.square(axes.of(space.rows()) - 0.5).sum(axis=1).mean()


def test_a_design_begins_with_what_is_known_and_takes_what_there_is() -> None:
    space = Space({"a": Integer(0, 2), "b": Boolean()})
    axes = feature_map(space)
    known = space.encode([{"a": 1, "b": True}])
    assert draw_design(space, axes, known, 1, root(2)).tolist() == known.tolist()
    points = draw_design(space, axes, known, 20, root(2))
    assert points[0].tolist() == known[0].tolist()
    assert {tuple(row) for row in points.tolist()} == {(a, b) for a in range(3) for b in range(2)}


def test_what_is_given_twice_counts_once_and_nothing_random_takes_its_place() -> None:
    default = SPACE.encode([SPACE.default])
    seeds = Seeds(default, np.concatenate([default, SPACE.sample(root(7), 1)]), default)
    begun = STRATEGIES["gaussian_process"](initial_points=2).init(SPACE, seeds, root(8))
    assert begun.points.tolist() == np.concatenate([default, seeds.user[1:]]).tolist()


TILES = Space(
    {
        "m": PowerOfTwo(16, 256, role="block_size"),
        "n": Choice((16, 32, 48), role="block_size"),
        "num_warps": PowerOfTwo(1, 16, role="num_warps"),
        "stages": Integer(1, 5),
    }
)


def test_blocks_and_warps_have_their_sizes_as_axes() -> None:
    axes = feature_map(TILES)
    assert axes.names[-2:] == ("elements of a block", "elements per warp")
    rows = TILES.encode(
        [
            {"m": 16, "n": 16, "num_warps": 16, "stages": 1},
            {"m": 256, "n": 48, "num_warps": 1, "stages": 1},
            {"m": 64, "n": 32, "num_warps": 4, "stages": 1},
        ]
    )
    block, each = axes.of(rows)[:, -2:].T
    assert block == pytest.approx([0.0, 1.0, 3 / (4 + np.log2(3))])
    assert each == pytest.approx([0.0, 1.0, 5 / (8 + np.log2(3))])


def test_blocks_without_warps_and_numbers_below_one_have_no_sizes() -> None:
    threads = Space({"x": PowerOfTwo(1, 64, role="block_size"), "y": PowerOfTwo(1, 64, role="block_size")})
    zero = Space({"x": Choice((0, 8), role="block_size"), "num_warps": PowerOfTwo(1, 8, role="num_warps")})
    assert feature_map(threads).sizes == feature_map(zero).sizes == ()


def test_blocks_in_a_list_share_its_role() -> None:
    space = Space(
        {
            "block_sizes": ListOf(PowerOfTwo(16, 64), 2, role="block_size"),
            "num_warps": PowerOfTwo(1, 4, role="num_warps"),
        }
    )
    assert len(feature_map(space).sizes) == 2


def test_what_is_expected_beforehand_is_of_mean_0_and_least_in_the_middle() -> None:
    axes, rows = feature_map(TILES), TILES.rows()
    away = axes.extremes(axes.of(rows))
    assert away.mean() == pytest.approx(0, abs=1e-12)
    configs = TILES.decode(rows)
    middle = [i for i, c in enumerate(configs) if c["m"] == 64 and c["num_warps"] == 4]
    assert set(np.flatnonzero(away < away.min() + 1e-9).tolist()) == set(middle)


def test_all_of_a_small_space_is_considered_and_no_more_than_there_is_time_for_of_a_larger_one() -> None:
    def fresh(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] > 0

    best = TILES.sample(root(1), 1)
    everywhere = propose_candidates(TILES, best, 60, 1000, fresh, root(2))
    assert everywhere.tolist() == [row for row in TILES.rows().tolist() if row[0] > 0]
    some = propose_candidates(TILES, best[:0], 60, 50, fresh, root(2))
    assert 0 < len(some) <= 50
    assert len({row.tobytes() for row in some}) == len(some)
    assert count_affordable(600, 10, 8) > count_affordable(600, 100, 8) > count_affordable(600, 100, 40) > count_affordable(600, 10**6, 40) == 54
