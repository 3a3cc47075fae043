"""How a result, a space and a recording read."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import (
    Budget,
    Choice,
    Failed,
    Plan,
    PlanError,
    PowerOfTwo,
    RandomSearch,
    Result,
    Settings,
    Space,
    Timed,
    advance,
    request,
    result,
    start,
)
from autotune.core.outcomes import Outcome, Trial
from autotune.core.search.citations import STRATEGY_REFERENCES
from autotune.core.search.messages import Asked, Conclude, Finished, Measure, Observed
from autotune.core.search.report import result_rows
from autotune.core.statistics import Ratio
from autotune.core.strategies.registry import STRATEGIES
from autotune.shell.codec import encode
from autotune.studies.recordings.load import load_recording
from autotune.testing import HashedTable
from autotune.testing.cache_entries import numbered_key

NASTY = "<script>alert(1)</script>\nü\x1b[31m"
SPACE = Space(
    {"block": PowerOfTwo(16, 256), NASTY: Choice(("a", "</td>")), "time_ms": Choice((1, 2, 3, 4))},
    default={"block": 16, NASTY: "a", "time_ms": 1},
)


def outcome_of(trial: Trial) -> Outcome:
    block = trial.config["block"]
    assert isinstance(block, int)
    if block == 128:
        return Failed("compile_error", NASTY, 0.25)
    return Timed((100 / block,) * 7, 0.5, details={"registers": 32})


def found(space: Space = SPACE, count: int = 30, budget: Budget | None = None, exact: bool = False) -> Result:
    machine = Settings(verify_rounds=0, simplify_rounds=3 * exact, rebenchmark_threshold=0.0, exact=exact)
    search = start(Plan(space, RandomSearch(count=count), budget or Budget(), settings=machine))
    while not isinstance(todo := request(search, 4), Finished):
        if isinstance(todo, Measure | Conclude):
            search = advance(search, Asked(1.0, 0, todo))
        if isinstance(todo, Measure):
            for trial in todo.trials:
                search = advance(search, Observed(2.0, trial.id, outcome_of(trial)))
    return result(search)


class Texts(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_result_is_printed_as_a_table() -> None:
    text = str(found())
    assert text.startswith("parameter")
    assert "best       0.3906 ms" in text
    assert "\x1b" not in text
    assert repr(found()).startswith("<Result: 0.3906 ms, 16x")
    assert "\n" not in repr(found())


def test_its_trials_tell_what_was_tried() -> None:
    trials = found().trials()
    assert [one.trial for one in trials] == list(range(len(trials)))
    assert trials[0].origin == "default"
    assert {one.status for one in trials} == {"timed", "compile_error"}
    failed = next(one for one in trials if one.status != "timed")
    assert (failed.time_ms, failed.times_ms, failed.message, failed.compile_s) == (None, (), NASTY, 0.25)
    assert all(one.details == {"registers": 32} for one in trials if one.status == "timed")


def test_a_frame_has_a_column_for_each_parameter_and_each_field() -> None:
    pandas = pytest.importorskip("pandas")
    frame = found().to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert {"trial", "block", "config_time_ms", "time_ms", "status", "message", "compile_s"} <= set(frame.columns)
    assert frame.loc[0, "time_ms"] == 6.25
    assert frame.loc[0, "config_time_ms"] == 1


def test_without_pandas_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(PlanError, match=r"pip install 'autotune-kernels\[frames\]'"):
        found().to_frame()


def test_json_holds_every_field_with_its_unit_and_reads_back() -> None:
    made = found()
    said = json.loads(made.to_json(), parse_constant=lambda _: math.nan)
    assert said == json.loads(json.dumps(made.to_dict()))
    assert said["best"]["config"] == dict(made.best.config)
    assert said["why"] == made.why
    numbers = {"time_ms", "low_ms", "high_ms", "times_ms", "first_ms"}
    assert numbers <= said["best"].keys()


def test_html_shows_names_and_messages_as_texts() -> None:
    page = Texts(found()._repr_html_())
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert any("<script>" in text for text in page.texts)
    assert page.tags.isdisjoint({"script"})
    for shown in (Texts(SPACE._repr_html_()), Texts(load_recording("builtin:rms_norm")._repr_html_())):
        assert shown.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p"}
        assert len(shown.texts) > 5


def test_it_says_why_in_sentences() -> None:
    why = found().why
    assert "configs were tried by random_search" in why
    assert "block (" in why
    assert "16x over the default" in why
    assert why.endswith("The search stopped because all 30 configs were tried.")
    few = found(Space({"block": PowerOfTwo(16, 64)}, default={"block": 16}), count=3).why
    assert "variance" not in few
    assert "3 timed configs are too few to tell which parameters matter." in few


@pytest.mark.parametrize(("evaluations", "kept"), [(8, ""), (20, ", less 2 kept for simplification")])
def test_evaluations_that_were_kept_and_not_used_are_told(evaluations: int, kept: str) -> None:
    space = Space({"block": PowerOfTwo(1, 1 << 40)}, default={"block": 1})
    made = found(space, budget=Budget(evaluations=evaluations), exact=True)
    assert made.detail == f"the budget of {evaluations} evaluations is spent", "journals hold these words"
    assert dict(result_rows(made))["stopped"] == made.detail + kept
    assert made.why.endswith(f"{made.detail}{kept}.")


def test_a_decoded_result_says_that_it_does_not_know_its_search() -> None:
    import msgspec

    from autotune.shell.codec import make_decoder

    read = make_decoder(Result).decode(encode(found()))
    assert isinstance(read, Result)
    assert read == found()
    assert "tried in" in read.why
    for ask in (read.trials, read.citations):
        with pytest.raises(PlanError, match="does not know its search"):
            ask()
    assert msgspec.json.decode(encode(read)) == msgspec.json.decode(encode(found()))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_its_papers(name: str) -> None:
    """Each with its year, and most with a title."""
    assert STRATEGY_REFERENCES[name]
    for paper in STRATEGY_REFERENCES[name]:
        assert re.search(r"\b(19|20)\d\d\b", paper), paper
        assert paper.count('"') == 2, paper


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    import msgspec

    made = found()
    changed = msgspec.structs.replace(made, drift=Ratio(value=1.0, low=-math.inf, high=math.nan))
    drift = json.loads(changed.to_json(), parse_constant=pytest.fail)["drift"]
    assert (drift["value"], drift["low"], drift["high"]) == (1.0, None, None)


def test_a_result_from_the_cache_knows_its_trials_and_papers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": 6, "cache": tmp_path, "progress": False, "key": numbered_key(0).loose}
    evaluator = autotune.SimulatedEvaluator(HashedTable())
    space = Space({"block": PowerOfTwo(16, 256)}, default={"block": 16})
    first = autotune.tune(space, evaluator, "random_search", **options)
    again = autotune.tune(space, evaluator, "random_search", **options)
    assert any("from the cache" in note for note in again.notes)
    assert [(one.config, one.time_ms) for one in again.trials()] == [
        (one.config, one.time_ms) for one in first.trials()
    ]
    assert again.citations() == first.citations()


def test_citations_are_of_the_strategy_and_of_the_machine() -> None:
    cited = found().citations()
    assert any("Random search for hyper-parameter optimization" in one for one in cited)
    assert any("Order statistics" in one for one in cited)


def test_a_ratio_reads_as_a_factor_with_its_interval() -> None:
    assert str(Ratio(value=3.14159, low=2.9, high=3.4)) == "3.14x (2.9 to 3.4)"
    assert str(Ratio(value=2.0, low=1.5, high=2.5, level=0.5)) == "2x (1.5 to 2.5, 50%)"
    assert dict(result_rows(found()))["speed-up"] == "16x over the default"


def test_the_command_line_prints_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    from autotune.cli.output import print_labelled
    from autotune.cli.results import print_config

    made = found(Space({"block": PowerOfTwo(16, 256)}, default={"block": 16}))
    print_config(made.best.config, None if made.default is None else made.default.config)
    print()
    print_labelled(result_rows(made))
    assert capsys.readouterr().out == f"{made}\n"
    assert autotune.Result is Result
