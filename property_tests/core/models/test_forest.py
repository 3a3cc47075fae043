"""Forests as arrays predict as scikit-learn's own trees do, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier

from autotune import compute_leaf_similarity
from autotune.core.models import forest as forests
from autotune.core.models.forest import (
    LEAF,
    fit_classifier,
    fit_regressor,
    from_trees,
    grow_trees,
    quick_builder,
)

ARRAYS = ("feature", "threshold", "left", "right", "value", "roots")

fuzz = settings(max_examples=40, deadline=None)
CELLS = st.sampled_from([0.0, 1.0, 2.0, 3.0, 16.0, 0.1, -1e-40, 1 / 3, 1e30, 1e-30, -7.25])


@st.composite
def data(draw: st.DrawFn, most: int = 40):
    """Points to fit, others to ask about, labels of both kinds, values and weights."""
    n, m, width = draw(st.integers(2, most)), draw(st.integers(0, 15)), draw(st.integers(1, 5))
    cells = draw(st.lists(CELLS, min_size=(n + m) * width, max_size=(n + m) * width))
    rows = np.array(cells).reshape(n + m, width)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    labels = rng.random(n) < draw(st.sampled_from([0.1, 0.5]))
    labels[:2] = True, False
    return rows[:n], rows, labels, rng.normal(size=n) * 10.0 ** rng.integers(-3, 4), rng.random(n) + 1e-5


def trees_of(forest_of, seed=3):
    return forest_of(n_estimators=7, random_state=seed, n_jobs=1)


@fuzz
@given(data())
def test_a_classifier_predicts_as_scikit_learn_does(drawn):
    points, asked, labels, _, weights = drawn
    model = trees_of(RandomForestClassifier).set_params(criterion="log_loss").fit(points, labels, weights)
    forest = from_trees(model.estimators_)
    assert np.array_equal(forest.predict(asked), model.predict_proba(asked)[:, 1])
    assert np.array_equal(forest.leaves(asked) - forest.roots, model.apply(asked))


@fuzz
@given(data())
def test_a_regressor_predicts_as_scikit_learn_does(drawn):
    points, asked, _, values, _ = drawn
    model = trees_of(RandomForestRegressor).fit(points, values)
    forest = from_trees(model.estimators_)
    assert np.array_equal(forest.predict(asked), model.predict(asked))


@fuzz
@given(data(), st.integers(0, 6))
def test_paths_are_the_features_split_on_in_order(drawn, tree):
    points, asked, labels, _, weights = drawn
    model = trees_of(RandomForestClassifier).fit(points, labels, weights)
    forest, inner = from_trees(model.estimators_), model.estimators_[tree]
    paths = forest.paths(asked, np.full(len(asked), tree))
    indicator = inner.decision_path(asked.astype(np.float32))
    for row, path in enumerate(paths):
        nodes = indicator.indices[indicator.indptr[row] : indicator.indptr[row + 1]]
        split = inner.tree_.feature[nodes]
        split = split[split >= 0]
        assert np.array_equal(path[: len(split)], split)
        assert (path[len(split) :] == LEAF).all()
    trees = np.arange(len(asked)) % len(forest)
    assert np.array_equal(forest.descend(asked, trees), forest.leaves(asked)[np.arange(len(asked)), trees])


@fuzz
@given(data())
def test_our_forests_are_the_mean_of_their_trees(drawn):
    points, asked, labels, values, weights = drawn
    predictions = [
        tree.predict(asked.astype(np.float32))[:, 1] for tree in grow_trees("classifier", points, labels, weights, 5)
    ]
    assert np.array_equal(fit_classifier(points, labels, weights, 5).predict(asked), sum(predictions) / 5)
    predictions = [
        tree.predict(asked.astype(np.float32))[:, 0]
        for tree in grow_trees("regressor", points, values, np.ones(len(values)), 5)
    ]
    assert np.array_equal(fit_regressor(points, values, 5).predict(asked), sum(predictions) / 5)


@fuzz
@given(data())
def test_trees_built_without_checks_are_the_public_ones(drawn):
    points, _, labels, _, weights = drawn
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forests, "quick_builder", lambda *_: None)
        public = forests._flatten(grow_trees("classifier", points, labels.astype(float), weights, 5))
    quick = forests._flatten(grow_trees("classifier", points, labels.astype(float), weights, 5))
    assert all(np.array_equal(getattr(public, name), getattr(quick, name)) for name in ARRAYS)


def test_there_is_a_quick_builder_and_it_is_not_used_where_it_differs():
    points, labels, weights, _ = example()
    x, values = points.astype(np.float32), labels.astype(float)

    def other(seed, counted):
        return DecisionTreeClassifier(max_depth=1, random_state=seed).fit(x, values, sample_weight=counted).tree_

    def public(seed, counted):
        tree = DecisionTreeClassifier(criterion="log_loss", max_features="sqrt", random_state=seed)
        return tree.fit(x, values, sample_weight=counted).tree_

    assert quick_builder(x, values, public, 3, weights) is not None
    assert quick_builder(x, values, other, 3, weights) is None
    assert quick_builder(x[:, :0], values, public, 3, weights) is None


@pytest.mark.parametrize("missing", ["DepthFirstTreeBuilder", "Tree"])
def test_where_scikit_learn_has_changed_inside_the_public_way_is_used(missing: str, monkeypatch: pytest.MonkeyPatch):
    from sklearn.tree import _tree

    points, labels, weights, asked = example()
    expected = fit_classifier(points, labels, weights, 4).predict(asked)
    forests._fit.cache_clear()
    with monkeypatch.context() as patched:
        patched.delattr(_tree, missing)
        assert np.array_equal(fit_classifier(points, labels, weights, 4).predict(asked), expected)
    forests._fit.cache_clear()


@fuzz
@given(data(most=25))
def test_similarity_is_the_share_of_trees_with_a_common_leaf(drawn):
    points, asked, labels, _, weights = drawn
    forest = fit_classifier(points, labels, weights, 6)
    leaves = forest.leaves(asked)
    expected = (leaves[:, None] == leaves[None]).sum(axis=2) / 6
    similarity = compute_leaf_similarity(forest, asked)
    assert np.array_equal(similarity, expected)
    assert np.array_equal(similarity, similarity.T)
    assert (np.diag(similarity) == 1).all()


def example(n=120, width=6):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 8, (n, width)).astype(float)
    return points, points[:, 0] + points[:, 1] > 9, np.ones(n), rng.integers(0, 8, (300, width)).astype(float)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    points, labels, weights, asked = example()
    forest = fit_classifier(points, labels, weights)
    whole = forest.leaves(asked), compute_leaf_similarity(forest, asked)
    monkeypatch.setattr("autotune.core.models.forest.PAIRS_AT_ONCE", 700)
    monkeypatch.setattr("autotune.core.models.forest.ROWS_AT_ONCE", 17)
    assert np.array_equal(forest.leaves(asked), whole[0])
    assert np.array_equal(compute_leaf_similarity(forest, asked), whole[1])


def test_a_fit_is_a_function_of_its_data():
    points, labels, weights, asked = example()
    first = fit_classifier(points, labels, weights)
    np.random.seed(5)  # noqa: NPY002 - the global state that scikit-learn falls back on
    forests._fit.cache_clear()
    again = fit_classifier(points.copy(), labels.copy(), weights.copy())
    assert first is not again
    for name in ARRAYS:
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert np.array_equal(first.predict(asked), again.predict(asked))
    assert not first.value.flags.writeable


def test_a_forest_learns():
    points, labels, weights, asked = example(400)
    truth = asked[:, 0] + asked[:, 1] > 9
    assert ((fit_classifier(points, labels, weights).predict(asked) > 0.5) == truth).mean() > 0.93
    values = points[:, 0] * 2 - points[:, 1]
    errors = fit_regressor(points, values).predict(asked) - (asked[:, 0] * 2 - asked[:, 1])
    assert np.abs(errors).mean() < 1.0


def test_no_points():
    points, labels, weights, _ = example()
    forest = fit_classifier(points, labels, weights, 4)
    none = np.empty((0, points.shape[1]))
    assert forest.leaves(none).shape == (0, 4)
    assert forest.predict(none).shape == (0,)
    assert compute_leaf_similarity(forest, none).shape == (0, 0)
