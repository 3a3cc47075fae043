import itertools
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from autotune.core.outcomes import FAILURE_KINDS
from autotune.core.search.messages import Observed, TrialWork
from autotune.shell.codec import decode_event, encode
from autotune.shell.journal import Journal, read_journal
from autotune.shell.timeline import Span
from autotune.shell.tuning import read_search
from autotune.viewer.journal_view import view_journal
from tests.viewer.conftest import NASTY_MESSAGE

GOLDEN = Path(__file__).parents[1] / "golden"


def test_every_trial_has_its_config_and_its_outcome(journal: Journal) -> None:
    view, (_, search) = view_journal(journal), read_search(journal.path)
    latest = dict(search.outcomes)
    assert sorted(view.trials.number) == sorted(latest)
    for place, number in enumerate(view.trials.number):
        assert view.config(place) == dict(search.trials[number].config)
        kind = view.trials.kind[place]
        assert (view.trials.time_ms[place] is None) == (kind > 0)
        if kind:
            assert FAILURE_KINDS[kind - 1] == latest[number].kind  # type: ignore[union-attr]
        else:
            assert view.trials.time_ms[place] == latest[number].time_ms  # type: ignore[union-attr]


def test_the_best_so_far_falls_and_the_pick_is_a_finalist(journal: Journal) -> None:
    view = view_journal(journal)
    times = [step.time_ms for step in view.history]
    assert times == sorted(times, reverse=True)
    assert times[-1] == min(t for t in view.trials.first_ms if t is not None)
    assert view.best is not None
    assert [one.trial for one in view.finalists if one.pick] == [view.trials.number[view.best]]
    assert view.state == "finished"


def test_failures_are_counted_by_kind_and_message(journal: Journal) -> None:
    view = view_journal(journal)
    (failures,) = view.failures
    assert failures.kind == "compile error"
    assert failures.count == sum(time is None for time in view.trials.time_ms) > 0
    assert [(m.text, m.count) for m in failures.messages] == [(NASTY_MESSAGE, failures.count)]


def test_every_request_is_a_batch_with_its_reason(journal: Journal) -> None:
    view = view_journal(journal)
    assert all(batch.why for batch in view.batches)
    assert sum(batch.trials for batch in view.batches if batch.kind == "measure") == len(view.trials.number)
    assert sum(batch.failed for batch in view.batches) == view.failures[0].count
    assert {batch.kind for batch in view.batches} == {"measure", "compare", "conclude"}


def test_derived_spans_of_a_lane_do_not_overlap(journal: Journal) -> None:
    spans = view_journal(journal).spans
    assert {span.lane.split()[0] for span in spans} == {"compile", "run", "comparison"}
    for lane in {span.lane for span in spans}:
        ordered = sorted((s.start_s, s.end_s) for s in spans if s.lane == lane)
        assert all(end <= start + 1e-6 for (_, end), (start, _) in itertools.pairwise(ordered))


def test_work_that_a_journal_records_takes_the_place_of_derived_spans(journal: Journal) -> None:
    work = (TrialWork("compile 4711", "compile", 0.5, 1.0), TrialWork("gpu 0", "run", 1.5, 2.0))
    first = next(i for i, event in enumerate(journal.events) if isinstance(event, Observed))
    event = msgspec.structs.replace(journal.events[first], work=work)  # type: ignore[type-var]
    assert decode_event(encode(event)) == event
    events = (*journal.events[:first], event, *journal.events[first + 1 :])
    spans = [span for span in view_journal(replace(journal, events=events)).spans if span.what != "compare"]
    assert [(span.lane, span.trial, span.end_s) for span in spans] == [
        ("compile 0", event.trial, 1.0),  # type: ignore[union-attr]
        ("gpu 0", event.trial, 2.0),  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_journals_of_every_version_and_strategy_have_a_view(path: Path) -> None:
    view, (_, search) = view_journal(read_journal(path)), read_search(path)
    assert len(view.trials.number) == search.observed
    assert (view.best is None) == (search.best_ms is None)


def test_spans_of_a_timeline_take_the_place_of_derived_ones(journal: Journal) -> None:
    written = [Span(lane="gpu 0", what="run", trial=0, start_s=0.0, end_s=1.0)]
    view = view_journal(journal, spans=written)
    assert [(s.lane, s.end_s) for s in view.spans] == [("gpu 0", 1.0)]


def test_any_beginning_of_a_journal_has_a_view(journal: Journal) -> None:
    for cut in range(0, len(journal.events), 17):
        view = view_journal(replace(journal, events=journal.events[:cut]))
        assert view.state == "unfinished"
        assert len(view.trials.number) <= cut
