"""Laws of the metrics: the baseline against every possible draw, the score against its definition, sums of losses."""

from fractions import Fraction
from itertools import combinations, permutations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.core.keys import fold, root
from autotune.studies.recordings import Recording, RecordingHeader, RecordingRow, build_recording
from autotune.studies.runs import RunRecord
from autotune.studies.scores import (
    AXES,
    NEARNESS,
    Baseline,
    Scorer,
    bootstrap,
    evaluation_seconds,
    recording_weights,
    weighted_median,
)
from autotune.studies.tables import loss, warm_medians_ms

TIMES = st.lists(st.none() | st.integers(1, 50).map(float), min_size=1, max_size=7).filter(any)


def recorded(times, seconds=None):
    """A recording with one parameter; None for a point that failed."""
    rows = [
        RecordingRow(
            key=str(i),
            codes=(i,),
            time_ms=time,
            samples_ms=() if time is None else (3 * time, time, time),
            compile_s=cost,
        )
        for i, (time, cost) in enumerate(zip(times, seconds or [1.0] * len(times), strict=True))
    ]
    return build_recording(
        RecordingHeader(
            name="k__d", kernel="k", device="d", problem="", parameters=("p",), values=(tuple(range(len(times))),)
        ),
        rows,
    )


def fastest(times, otherwise):
    return min((time for time in times if time is not None), default=otherwise)


@given(TIMES)
def test_the_baseline_is_the_mean_over_all_draws(times):
    baseline = Baseline(recorded(times))
    mean = fmean(time for time in times if time is not None)
    for n in range(len(times) + 1):
        drawn = [Fraction(fastest(draw, mean)) for draw in combinations(times, n)]
        assert baseline.expected_ms(n) == pytest.approx(float(sum(drawn) / len(drawn)), rel=1e-9)


@given(st.lists(st.none() | st.floats(1e-3, 1e6), min_size=1, max_size=200).filter(any))
def test_the_baseline_never_rises_and_ends_at_the_optimum(times):
    baseline = Baseline(recorded(times))
    curve = baseline.curve(np.arange(len(times) + 1, dtype=float))
    assert (np.diff(curve) <= 1e-9 * curve[:-1]).all()
    assert curve[-1] == pytest.approx(baseline.optimum_ms)
    assert baseline.curve(np.array([len(times) + 5.5]))[0] == curve[-1]


@given(TIMES)
def test_the_budget_is_the_first_draw_near_enough(times):
    baseline = Baseline(recorded(times))
    target = baseline.optimum_ms + 0.05 * (baseline.median_ms - baseline.optimum_ms)
    assert 1 <= baseline.budget <= len(times)
    assert baseline.expected_ms(baseline.budget) <= target * (1 + 1e-6)
    assert baseline.budget == 1 or baseline.expected_ms(baseline.budget - 1) > target


@given(TIMES.filter(lambda times: len(times) <= 5))
def test_random_search_scores_nothing_by_evaluations(times):
    """Over all orders, exactly: that is what makes it the zero of the scale."""
    scorer = Scorer(recorded(times))
    scores = [scorer.score(np.array(order)).by_evaluations for order in permutations(range(len(times)))]
    assert fmean(scores) == pytest.approx(0, abs=1e-9)


@given(TIMES, st.randoms())
def test_the_best_first_scores_one_and_nothing_scores_more(times, random):
    scorer = Scorer(recorded(times))
    order = list(range(len(times)))
    random.shuffle(order)
    best = min((i for i in order if times[i] is not None), key=lambda i: times[i])
    perfect = scorer.points(np.array([best]), "evaluations")
    base = scorer.baselines["evaluations"]
    assert np.allclose(perfect, base > scorer.baseline.optimum_ms * (1 + 1e-9))
    for axis in AXES:
        assert (scorer.points(np.array(order), axis) <= 1 + 1e-9).all()


@given(TIMES, st.data())
def test_another_evaluation_never_makes_a_score_worse_but_for_the_first(times, data):
    scorer = Scorer(recorded(times))
    order = data.draw(st.permutations(range(len(times))))
    for n in range(1, len(order)):
        if scorer.best_ms(np.array(order[:n]))[-1] == scorer.baseline.unknown_ms:
            continue  # nothing timed yet: the first time may be worse than the mean that stood in for it
        shorter, longer = (scorer.score(np.array(order[:k])) for k in (n, n + 1))
        assert longer.by_evaluations >= shorter.by_evaluations - 1e-9
        assert longer.by_time >= shorter.by_time - 1e-9
        assert longer.final >= shorter.final


@given(TIMES, st.floats(0.01, 1000), st.data())
def test_scores_do_not_depend_on_units(times, scale, data):
    order = np.array(data.draw(st.permutations(range(len(times)))))
    seconds = data.draw(st.lists(st.integers(1, 9).map(float), min_size=len(times), max_size=len(times)))
    one = Scorer(recorded(times, seconds)).score(order)
    scaled = [None if time is None else time * scale for time in times]
    other = Scorer(recorded(scaled, [4 * cost for cost in seconds])).score(order)
    assert other.by_time == pytest.approx(one.by_time, abs=1e-6)
    assert other.by_evaluations == pytest.approx(one.by_evaluations, abs=1e-6)


@given(TIMES, st.data())
def test_equal_costs_make_time_and_evaluations_the_same_curve(times, data):
    order = np.array(data.draw(st.permutations(range(len(times)))))
    scorer = Scorer(recorded(times, [2.5] * len(times)))
    done = np.floor(scorer.grid("time") / 2.5 * (1 + 1e-9)).astype(int)
    assert np.array_equal(scorer.curve(order, "time"), scorer.best_ms(order)[np.minimum(done, len(order))])


@given(TIMES, st.data())
def test_what_was_reached_is_what_the_definition_says(times, data):
    order = data.draw(st.permutations(range(len(times))))
    recording = recorded(times)
    score = Scorer(recording).score(np.array(order))
    for near, reached in zip(NEARNESS, score.reached, strict=True):
        hits = [n for n, row in enumerate(order, 1) if times[row] and times[row] <= recording.optimum_ms * (1 + near)]
        assert reached == (hits[0] if hits else None)
    assert (score.final, score.quality) == (1, (1, 1, 1, 1))  # everything was measured
    assert score.failed == times.count(None)


@given(TIMES, st.data())
def test_losses_add_up_to_what_was_lost(times, data):
    recording = recorded(times)
    rows = data.draw(st.lists(st.sampled_from(range(len(times))), unique=True, min_size=1))
    timed = [row for row in rows if times[row] is not None]
    picked = data.draw(st.sampled_from(timed)) if timed else None
    run = RunRecord(
        key="", strategy="s", recording="r", seed=0, rows=tuple(rows), picked=picked, own_end=True, rejected=0,
        cpu_s=0.0, wall_s=0.0,
    )  # fmt: skip
    split = loss(run, warm_medians_ms(recording))
    if picked is None:
        assert split is None
        return
    assert min(split.exploration, split.selection) >= 0
    assert split.exploration + split.selection == pytest.approx(times[picked] / recording.optimum_ms - 1)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_kernels_count_the_same(kernels):
    weights = recording_weights(kernels)
    for kernel in set(kernels):
        own = sum(w for w, other in zip(weights, kernels, strict=True) if other == kernel)
        assert own == pytest.approx(1 / len(set(kernels)))


@given(st.lists(st.none() | st.integers(1, 99), min_size=1, max_size=15))
def test_the_weighted_median_of_equal_weights_counts_never_as_last(values):
    ordered = sorted(values, key=lambda value: (value is None, value or 0))
    assert weighted_median(values, [0.1] * len(values)) == ordered[(len(values) - 1) // 2]


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.data())
def test_the_bootstrap_is_a_function_of_its_arguments_and_knows_a_constant(recordings, seeds, seed, data):
    kernels = data.draw(st.lists(st.sampled_from("ab"), min_size=recordings, max_size=recordings))
    values = np.random.default_rng(seed).normal(size=(recordings, seeds))
    key = fold(root(seed), "bootstrap")
    one, again = (bootstrap(values, kernels, key, 200) for _ in range(2))
    assert one == again
    assert one.low - 1e-9 <= one.high
    moved = bootstrap(values + 3, kernels, key, 200)
    assert (moved.mean, moved.low, moved.high) == pytest.approx((one.mean + 3, one.low + 3, one.high + 3))
    flat = bootstrap(np.full((recordings, seeds), 0.25), kernels, key, 50)
    assert (flat.mean, flat.low, flat.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    """Recordings and seeds both vary; with this many of them the interval should be close to 95 %."""
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        values = rng.normal(size=(20, 1)) + rng.normal(size=(20, 10))
        estimate = bootstrap(values, [str(i) for i in range(20)], fold(root(trial), "c"), 400)
        hits += estimate.low <= 0 <= estimate.high
    assert 175 <= hits <= 200


def test_the_seconds_of_an_evaluation_are_all_that_was_recorded():
    header = RecordingHeader(name="k__d", kernel="k", device="d", problem="", parameters=("p",), values=((0,),))
    recording: Recording = build_recording(
        header, [RecordingRow(key="0", codes=(0,), time_ms=1.0, compile_s=1, run_s=2, framework_s=4)]
    )
    assert evaluation_seconds(recording).tolist() == [7]
