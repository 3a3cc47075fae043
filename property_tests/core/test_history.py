"""Histories that share storage, against plain lists: whatever is branched from whatever, each version keeps its own."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.core.history import FIELDS, Archive, Log, Points, Records

STEPS = st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 5), max_size=4)), max_size=40)
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@FUZZ
@given(steps=STEPS)
def test_a_log_is_a_list(steps):
    versions = [(Log(), [])]
    for which, items in steps:
        log, model = versions[which % len(versions)]
        versions.append((log.append(*items), model + items))
    for log, model in versions:
        assert list(log) == model
        assert len(log) == len(model)
        assert log[1:-1] == model[1:-1]
        assert [log[i] for i in range(-len(model), len(model))] == model * 2
        for i in (len(model), -len(model) - 1):
            try:
                log[i]
            except IndexError:
                continue
            raise AssertionError("an index behind the end of this version")


@FUZZ
@given(steps=STEPS)
def test_points_are_a_list_of_rows_with_an_index(steps):
    versions = [(Points(2), [])]
    for which, items in steps:
        points, model = versions[which % len(versions)]
        rows = np.array([(i, i % 3) for i in items], np.int64).reshape(-1, 2)
        versions.append((points.append(rows), model + [tuple(row) for row in rows.tolist()]))
    asked = np.array([(i, i % 3) for i in range(6)], np.int64)
    for points, model in versions:
        assert [tuple(row) for row in points.rows.tolist()] == model
        assert len(points) == len(model)
        wanted = [model.index(tuple(row)) if tuple(row) in model else -1 for row in asked.tolist()]
        assert points.places(asked).tolist() == wanted
        assert points.unseen(asked).tolist() == [place < 0 for place in wanted]
        assert not points.rows.flags.writeable


def record(trial, number):
    return (trial, number % 3 != 0, float(number), float(number), float(number), 0.5, number, trial % 2)


@FUZZ
@given(steps=STEPS)
def test_records_are_a_list_and_the_archive_shows_the_latest_of_each(steps):
    versions, number = [(Records(), [])], 0
    for which, items in steps:
        records, model = versions[which % len(versions)]
        for trial in items:
            number += 1
            records, model = records.append(record(trial, number)), [*model, record(trial, number)]
            versions.append((records, model))
    points = Points(1).append(np.arange(6, dtype=np.int64)[:, None])
    for records, model in versions:
        assert records.array.tolist() == model
        assert records.array.dtype == FIELDS
        assert [records.has(trial) for trial in range(6)] == [any(r[0] == trial for r in model) for trial in range(6)]
        latest = {r[0]: r for r in model}
        archive = Archive(records, points)
        assert archive.latest.tolist() == [latest[trial] for trial in sorted(latest)]
        assert archive.points[:, 0].tolist() == sorted(latest)
        timed = sorted((r[2], r[0]) for r in latest.values() if r[1])
        assert archive.trials[archive.ranking()].tolist() == [trial for _, trial in timed]
