"""Law 3: a journal cut, damaged, foreign, interrupted or resumed gives the same run or one clear error."""

import os
import random
import re
import warnings
from pathlib import Path

import pytest

from autotune import (
    Asked,
    AutotuneError,
    Budget,
    Choice,
    Config,
    EvaluatorError,
    Integer,
    JournalError,
    Measure,
    RandomSearch,
    SimulatedEvaluator,
    Space,
    TuningFailed,
    make_plan,
    replay,
    resume,
    tune,
)
from autotune.shell.journal import JournalWriter, header_for, read_journal
from autotune.shell.signed_json import sign
from autotune.testing import SPACES, HashedTable, gemm_space
from autotune.testing.journal_laws import MACHINE, lines_of
from property_tests.registry import EVALUATORS, INSTANCES, REPEATABLE, called, instance

pytestmark = pytest.mark.filterwarnings("ignore:.*is torn and was dropped")

FEW = [case for case in INSTANCES if case[1] == 0]
TEXTS = [("random_search", 0), ("pattern_search", 0), ("differential_evolution", 0)]
"""Strategies enough where it is the text of a journal that matters."""


def run(path, which, evaluator, *, space=None, budget=None, progress=False, seed=5):
    """The result of a small search that writes the journal `path`, or the TuningFailed it ends with."""
    space = space or gemm_space()
    strategy = instance(which, space)
    budget = budget or Budget(evaluations=30)
    try:
        return tune(
            space, evaluator, strategy, budget=budget, seed=seed, journal=path, settings=MACHINE, progress=progress
        )
    except TuningFailed as error:
        return str(error)


def resumed(path, evaluator, progress=False, space=None):
    try:
        return resume(path, evaluator, progress=progress, space=space)
    except TuningFailed as error:
        return str(error)


def replays(path, space=None):
    found = replay(path, space=space)
    assert found.divergence is None, found.divergence
    return found


def write(path, data):
    Path(path).write_bytes(data)
    return path


def half(path, copy):
    """A copy of a journal without its second half, the last line whole."""
    parts = path.read_bytes().splitlines(keepends=True)
    return write(copy, b"".join(parts[: len(parts) // 2]))


class Stop(Exception):
    """Ends a run in the middle, as a kill would: nothing is written any more."""


# Cuts


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    """A journal of every case with its result, made once."""
    folder, made = tmp_path_factory.mktemp("journals"), {}

    def journal_of(which, name):
        if (which, name) not in made:
            path = folder / f"{len(made)}.jsonl"
            found = run(path, which, EVALUATORS[name]())
            made[which, name] = (path, found, lines_of(path))
        return made[which, name]

    return journal_of


@pytest.mark.parametrize("which", TEXTS, ids=called)
def test_a_journal_cut_at_any_byte_is_read_or_refused(which, tmp_path):
    path, cut = tmp_path / "whole", tmp_path / "cut"
    run(path, which, EVALUATORS["simulated noisy"](), budget=Budget(evaluations=7))
    data, whole = path.read_bytes(), read_journal(path)
    first = data.index(b"\n") + 1
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for length in range(0, len(data) + 1, 1 if which == TEXTS[0] else 7):
        write(cut, data[:length])
        if length < first:
            with pytest.raises(JournalError, match="header"):
                read_journal(cut)
            continue
        read = read_journal(cut)
        assert read.events == whole.events[: len(read.events)]
        assert read.length == max(end for end in ends if end <= length)


# Interrupts


def test_a_run_that_stops_within_any_event_resumes_to_the_run_itself(journals, tmp_path):
    """As if killed between the writing of an event and its folding, several times over."""
    which, name = ("pattern_search", 0), "simulated wide"
    _, found, expected = journals(which, name)
    path, count = tmp_path / "stopped", [0]

    def watch(search, event):
        count[0] += 1
        if count[0] % 9 == 0:
            raise Stop

    def attempt():
        if not path.exists():
            return run(path, which, EVALUATORS[name](), progress=watch)
        return resumed(path, EVALUATORS[name](), progress=watch)

    for _ in range(60):
        try:
            assert attempt() == found
            break
        except Stop:
            replays(path)
    else:
        pytest.fail("it never ended")
    assert count[0] > 20
    assert lines_of(path) == expected


@pytest.mark.parametrize("name", REPEATABLE)
def test_a_deadline_within_simplification_ends_like_any_other(name, tmp_path):
    """The strategy is done, resets are under way, and the time for the verification comes."""
    space, evaluator = gemm_space(), EVALUATORS[name]()
    once = tune(space, evaluator, RandomSearch(8), settings=MACHINE | {"verify_rounds": 0})
    machine, caught = MACHINE | {"reserve": 0.4}, 0
    for i in range(12):
        ends, path = once.elapsed_s * (1 - i / 15), tmp_path / f"{i}"
        seconds = ends if evaluator.exact else ends / (1 - machine["reserve"])
        found = tune(space, evaluator, RandomSearch(8), settings=machine, budget=Budget(seconds=seconds), journal=path)
        expected, data = lines_of(path), path.read_bytes()
        search = replays(path).search
        late = [trial for trial in search.pending if trial.origin == "simplify"]
        caught += bool(late)
        verify = data.rfind(b'"task":{"type":"compare"')
        for length in (len(data) - 1, verify if verify > 0 else len(data) // 2):
            cut = write(tmp_path / f"{i}-{length}", data[:length])
            assert resumed(cut, evaluator) == found
            assert lines_of(cut) == expected
    assert caught


# Damage


def undamaged_or_named(path, number, events):
    """Whether reading gives what was there (less a torn last line), or one error that names the line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read = read_journal(path)
        except JournalError as error:
            message = str(error)
            assert "\n" not in message
            return (
                re.search(rf"line {number}\b", message) is not None
                or "not a journal" in message
                or "journal format" in message
            )
    return (
        len(read.events) == len(events) - 1
        and read.events == events[:-1]
        and any("torn" in str(w.message) for w in caught)
    )


@pytest.mark.parametrize("which", TEXTS, ids=called)
def test_a_flipped_byte_is_named_by_its_line(which, journals, tmp_path):
    path, _, _ = journals(which, "simulated exact")
    data, flipped, rng = path.read_bytes(), tmp_path / "flipped", random.Random(8)
    events = read_journal(path).events
    header = data.index(b"\n")
    places = {*rng.sample(range(len(data)), 250), *rng.sample(range(header), 60), len(data) - 1, len(data) - 2, header}
    for place in sorted(places):
        for mask in (1 << rng.randrange(8), 0xFF):
            write(flipped, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            number = data[:place].count(b"\n") + 1
            assert undamaged_or_named(flipped, number, events), (place, mask, number)


def test_every_flipped_byte_of_a_journal_without_events_is_found(tmp_path):
    """The header alone: another seed or budget would otherwise be searched with, and nobody would know."""
    plan = make_plan(gemm_space(), "random_search", seed=1234, budget=Budget(evaluations=77))
    path = tmp_path / "header"
    JournalWriter.create(path, header_for(plan, {"kind": "simulated"})).close()
    data = path.read_bytes()
    for place in range(len(data) - 1):
        for mask in (1,) if place % 4 else (1, 0x80):
            write(path, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            with pytest.raises(JournalError):
                read_journal(path)


@pytest.mark.parametrize("change", ["removed", "twice", "swapped", "emptied"])
def test_lines_removed_repeated_or_swapped_are_damage(change, journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    parts = path.read_bytes().splitlines(keepends=True)
    for i in range(1, len(parts) - 1):
        changed = {
            "removed": parts[:i] + parts[i + 1 :],
            "twice": parts[: i + 1] + parts[i:],
            "swapped": [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]],
            "emptied": [*parts[:i], b"\n", *parts[i + 1 :]],
        }[change]
        damaged = write(tmp_path / "damaged", b"".join(changed))
        with pytest.raises(JournalError, match="line"):
            read_journal(damaged)


FOREIGN = {
    "empty": b"",
    "a line break": b"\n",
    "no line break": b'{"format":"autotune-journal","version":1}',
    "not JSON": b"hello\nworld\n",
    "another JSON": b'{"a":1}\n',
    "a list": b"[1,2]\n",
    "a number": b"17\n",
    "null": b"null\n",
    "another format": b'{"format":"autotune-recording","version":1}\n',
    "a newer version": b'{"format":"autotune-journal","version":99,"what":"ever"}\n',
    "a version that is none": b'{"format":"autotune-journal","version":"x"}\n',
    "half a header": b'{"format":"autotune-journal","version":1}\n',
    "binary": bytes(range(256)) * 9 + b"\n",
    "zeros": b"\0" * 5000 + b"\n",
    "zipped": b"\x1f\x8b\x08\x00abc\n",
    "a broken text": b'{"format":"autotune-\xff\xfe","version":1}\n',
    "deep": b"[" * 100_000 + b"\n",
    "deep in a field": b'{"format":"autotune-journal","version":1,"plan":' + b"[" * 100_000 + b"\n",
    "huge number": b'{"format":"autotune-journal","version":1' + b"0" * 400 + b"}\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_journal_is_one_clear_error(kind, tmp_path):
    path = write(tmp_path / "foreign", FOREIGN[kind])
    for read in (lambda: resume(path, EVALUATORS["simulated exact"]()), lambda: replay(path)):
        with pytest.raises(JournalError) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == FOREIGN[kind], "reading changed the file"


@pytest.mark.parametrize("path", ["/nowhere/at/all", "."])
def test_what_is_no_file_is_one_clear_error(path):
    with pytest.raises(JournalError):
        read_journal(path)


def with_header(data, old, new):
    """The header line alone, changed by someone who knows how to sign it."""
    header = data.partition(b"\n")[0].rpartition(b',"sum":"')[0] + b"}"
    assert old in header
    return sign(header.replace(old, new, 1)) + b"\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"random_search"', b'"quantum_search"'),
        (b'"count":14', b'"count":-3'),
        (b'"count":14', b'"colour":3'),
        (b'"M":{"type":"power_of_two"', b'"M":{"type":"power_of_ten"'),
        (b'"low":16,"high":128', b'"low":16,"high":17'),
        (b"M * N", b"M * Q"),
        (b'"evaluations":30', b'"evaluations":-1'),
    ],
)
def test_a_header_that_asks_for_what_there_is_not_is_one_clear_error(old, new, journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    changed = write(tmp_path / "changed", with_header(path.read_bytes(), old, new))
    with pytest.raises(AutotuneError) as caught:
        resume(changed, EVALUATORS["simulated exact"]())
    assert "\n" not in str(caught.value)


def test_another_space_is_refused_and_a_space_of_functions_must_be_given(journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    other = Space({"M": Integer(1, 9)})
    for read in (lambda: resume(path, EVALUATORS["simulated exact"](), space=other), lambda: replay(path, space=other)):
        with pytest.raises(JournalError, match="another space"):
            read()
    opaque = Space({"a": Integer(1, 9), "b": Choice(("x", None, 1.5))}, [lambda a: a != 3], {"a": 1, "b": None})
    mine = tmp_path / "opaque"
    found = tune(opaque, EVALUATORS["simulated exact"](), RandomSearch(count=9), journal=mine, progress=False)
    with pytest.raises(AutotuneError, match="function"):
        resume(mine, EVALUATORS["simulated exact"]())
    assert resume(mine, EVALUATORS["simulated exact"](), space=opaque, progress=False) == found
    replays(mine, opaque)


def test_another_evaluator_is_refused(journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    mine = half(path, tmp_path / "mine")
    data = mine.read_bytes()
    with pytest.raises(JournalError, match="exact"):
        resume(mine, EVALUATORS["simulated noisy"]())
    with pytest.raises(EvaluatorError, match="does not repeat"):
        resume(mine, SimulatedEvaluator(HashedTable(seed=12)))
    assert mine.read_bytes() == data, "a refused resume changed the journal"


# Writers


def test_two_writers_at_once_cannot_be(journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    mine = half(path, tmp_path / "mine")
    data = mine.read_bytes()
    with JournalWriter.append_to(read_journal(mine)), pytest.raises(JournalError, match="another process"):
        resume(mine, EVALUATORS["simulated exact"]())
    assert mine.read_bytes() == data
    with pytest.raises(JournalError, match="exists"):
        tune(gemm_space(), EVALUATORS["simulated exact"](), journal=mine, on_existing="error")
    assert mine.read_bytes() == data


def test_a_writer_that_was_overtaken_takes_nothing_away(journals, tmp_path):
    """Read, while another process went on with it and closed it, then opened for writing."""
    path, found, _ = journals(("random_search", 0), "simulated exact")
    data = path.read_bytes()
    mine = write(tmp_path / "mine", data[: len(data) // 2])
    early = read_journal(mine)
    assert early.length < early.size
    assert resumed(mine, EVALUATORS["simulated exact"]()) == found
    finished = mine.read_bytes()
    with pytest.raises(JournalError, match="another process"):
        JournalWriter.append_to(early)
    assert mine.read_bytes() == finished


def test_a_journal_that_cannot_be_written_is_one_clear_error(tmp_path):
    for path in (tmp_path, Path("/proc/nothing/here")):
        with pytest.raises(JournalError):
            tune(gemm_space(), EVALUATORS["simulated exact"](), journal=path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_journal_that_may_not_be_written_is_one_clear_error(journals, tmp_path):
    path, _, _ = journals(("random_search", 0), "simulated exact")
    mine = write(tmp_path / "mine", path.read_bytes())
    mine.chmod(0o444)
    with pytest.raises(JournalError, match="permission"):
        resume(mine, EVALUATORS["simulated exact"]())


# Spaces of every sort


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("which", FEW, ids=called)
def test_every_space_survives_the_journal(which, name, tmp_path):
    space, path = SPACES[name](), tmp_path / "journal"
    found = run(path, which, EVALUATORS["simulated noisy"](), space=space)
    data = path.read_bytes()
    cut = write(tmp_path / "cut", data[: len(data) * 2 // 3])
    assert resumed(cut, EVALUATORS["simulated noisy"]()) == found
    assert replays(path).search.plan.space == space
    for event in read_journal(path).events:
        if isinstance(event, Asked) and isinstance(event.task, Measure):
            for trial in event.task.trials:
                assert isinstance(trial.config, Config)
                assert space.check(trial.config) == trial.config
