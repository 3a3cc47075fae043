"""Walks: where they go and when they end."""

from typing import Any

from autotune.core.history import Archive
from autotune.core.strategies.pattern_search import Walk, Walks, follow_walks


def walk_twice(known: Archive, patience: int) -> Walks:
    """Two walks after these trials."""
    return follow_walks(known.latest, copies=2, delta=0.001, patience=patience)


def test_a_walk_goes_to_its_best_and_has_patience(valley: Any) -> None:
    times = [5.0, 6.0, 7.0, 4.0, 6.5, 4.1, 5.9, None, 5.89]
    walks, generations = [0, 0, 0, 0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 2, 2, 3, 3]
    at = {patience: walk_twice(valley.archive(times, walks, generations), patience) for patience in (0, 1, 2)}
    assert [walk.trial for walk in at[1]] == [3, 8]
    assert [walk.alive for walk in at[1]] == [False, True]  # two generations without progress, and one with
    assert [walk.alive for walk in at[2]] == [True, True]
    assert [walk.trial for walk in at[0]] == [3, 1]
    assert [walk.alive for walk in at[0]] == [False, False]


def test_a_walk_without_proposals_ends(valley: Any) -> None:
    walks = walk_twice(valley.archive([5.0, 6.0, 4.0], [0, 0, 0], [0, 0, 1]), 1)
    assert walks == (Walk(2, 4.0, 0, True), Walk(1, 6.0, 0, False))
