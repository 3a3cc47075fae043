"""`CommandEvaluator`: builds, runs, times, failures with the compiler's words, and what it leaves behind."""

import shutil
from pathlib import Path

import pytest

from autotune import (
    Boolean,
    Choice,
    CommandEvaluator,
    Config,
    EvaluatorError,
    Integer,
    JsonField,
    OutputPattern,
    Space,
    key_for,
    resume,
    tune,
)
from autotune.core.outcomes import Failed, Outcome, Timed, Trial
from autotune.core.search.messages import Limits
from autotune.shell.replay import replay

SPACE = Space({"mode": Choice(["a", "b"])}, default={"mode": "a"})


def outcome_of(evaluator: CommandEvaluator, config: dict[str, object], limits: Limits = Limits()) -> Outcome:  # noqa: B008
    """The outcome of one config of a space in which each value is the only one."""
    space = Space({name: Choice([value]) for name, value in config.items()})
    with evaluator.open(space) as session:
        session.submit([Trial(0, Config(config))], limits)
        while not (news := session.poll(1.0)):
            pass
    return news[0].outcome  # type: ignore[union-attr]


def sh(script: str, *words: str) -> list[str]:
    return ["sh", "-c", script, "sh", *words]


def test_a_program_is_built_in_a_folder_that_goes_with_it(tmp_path: Path) -> None:
    told = tmp_path / "told"
    evaluator = CommandEvaluator(
        sh('cat "$1"; printf "%s\n" "$2" "$TMPDIR" "$AUTOTUNE_CONFIG" "$MODE" > told', "{program}", "{folder}"),
        sh('echo "1.5 of $1" > "$2"', "{mode}", "{program}"),
        time=OutputPattern("^[0-9.]+"), env={"MODE": "is-{mode}"}, cwd=tmp_path, repeats=2, warmups=0,
    )  # fmt: skip
    found = outcome_of(evaluator, {"mode": "x y"})
    assert isinstance(found, Timed)
    assert found.times_ms == (1.5, 1.5)
    assert found.compile_s > 0
    folder, temporary, config, mode = told.read_text().splitlines()
    assert folder == temporary
    assert Path(folder).name == Config({"mode": "x y"}).digest
    assert not Path(folder).parent.exists()
    assert (config, mode) == ('{"mode":"x y"}', "is-x y")


def test_a_failed_build_ends_with_the_last_lines_of_the_compiler() -> None:
    script = 'for i in $(seq 1000); do echo "note $i" >&2; done; echo "error: no such tile: $1" >&2; exit 1'
    found = outcome_of(CommandEvaluator(["true"], sh(script, "{mode}")), {"mode": "a"})
    assert isinstance(found, Failed)
    assert found.kind == "compile_error"
    assert found.message.startswith("the build exited with code 1; it printed last:\nnote ")
    assert found.message.endswith("\nnote 1000\nerror: no such tile: a")
    assert len(found.message) < 700


FAILURES = {
    "exits": ("run_error", "the program exited with code 3; it printed last:\nno such tile"),
    "crashes": ("crash", "the program was killed by SIGSEGV"),
    "wrong": ("wrong_answer", "the output has 'sum 2.0' where 'sum 1.0' was expected"),
    "silent": ("run_error", "nothing in the output matches 'took (.*) ms'; it printed last:\nsum 1.0"),
    "zero": ("invalid_time", "the program told 0.0 ms"),
}


def test_failures_have_their_kind_and_the_reason() -> None:
    """In one worker, which outlives the programs that crash."""
    script = """case $1 in
        exits) echo no such tile >&2; exit 3;; crashes) kill -SEGV $$;;
        wrong) echo sum 2.0;; zero) echo took 0 ms;; esac
        echo sum 1.0; [ $1 = good ] && echo took 3 ms; exit 0"""
    evaluator = CommandEvaluator(sh(script, "{mode}"), time=OutputPattern("took (.*) ms"), reference="sum 1.0")
    modes = [*FAILURES, "good"]
    with evaluator.open(Space({"mode": Choice(modes)})) as session:
        session.submit([Trial(i, Config({"mode": mode})) for i, mode in enumerate(modes)], Limits())
        found: dict[int, Outcome] = {}
        while not session.idle:
            found |= {event.trial: event.outcome for event in session.poll(1.0)}  # type: ignore[union-attr]
    for outcome, (kind, message) in zip([found[i] for i in range(len(FAILURES))], FAILURES.values(), strict=True):
        assert isinstance(outcome, Failed)
        assert outcome.kind == kind, outcome
        assert outcome.message.startswith(message), outcome
    good = found[len(FAILURES)]
    assert isinstance(good, Timed)
    assert good.times_ms == (3.0,) * 3


def test_a_checker_takes_the_place_of_the_comparison() -> None:
    evaluator = CommandEvaluator(sh("echo 2", "{mode}"), reference="1", checker=lambda *both: both == ("2\n", "1"))
    assert isinstance(outcome_of(evaluator, {"mode": "a"}), Timed)


def test_a_program_that_hangs_is_killed_at_its_deadline() -> None:
    found = outcome_of(CommandEvaluator(sh("sleep 60", "{mode}"), run_timeout_s=0.3), {"mode": "a"})
    assert isinstance(found, Failed)
    assert found.kind == "run_timeout"


def test_a_build_that_hangs_is_killed_at_its_deadline() -> None:
    found = outcome_of(CommandEvaluator(["true"], sh("sleep 60", "{mode}"), build_timeout_s=0.3), {"mode": "a"})
    assert isinstance(found, Failed)
    assert found.kind == "compile_timeout"


def test_several_samples_of_one_run_all_count() -> None:
    script = 'echo \'{{"ms": [3, 1, 2], "sum": 7.0}}\''
    settings = {"time": JsonField("ms"), "reference": '{"sum": 7}', "rtol": 1e-3, "repeats": 1}
    found = outcome_of(CommandEvaluator(sh(script, "{mode}"), **settings), {"mode": "a"})  # type: ignore[arg-type]
    assert found == Timed((3.0, 1.0, 2.0), found.compile_s, found.run_s, details={"checked": "the output, a text"})


def test_a_config_that_is_far_slower_is_run_once() -> None:
    evaluator = CommandEvaluator(sh("echo 50", "{mode}"), time=OutputPattern(r"\d+"), repeats=5)
    cut = outcome_of(evaluator, {"mode": "a"}, Limits(cutoff_ms=10.0))
    assert isinstance(cut, Timed)
    assert (cut.times_ms, cut.cut) == ((50.0,), True)


def test_a_config_that_is_cut_off_was_checked_all_the_same() -> None:
    evaluator = CommandEvaluator(
        sh("echo 50", "{mode}"), time=OutputPattern(r"\d+"), repeats=5, checker=lambda out, expected: True
    )
    cut = outcome_of(evaluator, {"mode": "a"}, Limits(cutoff_ms=10.0))
    assert isinstance(cut, Timed)
    assert cut.details == {"checked": "by the checker"}


def test_a_flood_of_output_does_no_harm() -> None:
    script = "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo 'took 3 ms'"
    found = outcome_of(
        CommandEvaluator(sh(script, "{mode}"), time=OutputPattern("^took (.*) ms"), repeats=1, warmups=0), {"mode": "a"}
    )
    assert isinstance(found, Timed)
    assert found.times_ms == (3.0,)


def test_a_search_is_journalled_resumed_and_replayed(tmp_path: Path) -> None:
    source, path = tmp_path / "time.txt", tmp_path / "run.jsonl"
    source.write_text("1")
    script = 'echo "$(cat time.txt)$1"'
    evaluator = CommandEvaluator(
        sh(script, "{x}"), time=OutputPattern(r"\d+"), cwd=tmp_path, sources=["time.txt"], repeats=1, warmups=0
    )
    space = Space({"x": Integer(0, 3)}, default={"x": 3})
    settings = {"verify_rounds": 3, "simplify_rounds": 0}
    found = tune(space, evaluator, "random_search", journal=path, settings=settings, progress=False)
    assert found.best.config == {"x": 0}
    assert replay(path).divergence is None
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))
    before = key_for(space, evaluator)
    source.write_text("2")
    assert key_for(space, evaluator) != before
    with pytest.warns(UserWarning, match="goes on with another evaluator: sources = "):
        resume(path, evaluator, progress=False)
    assert replay(path).divergence is None


MISTAKES = [
    ({"run": ["true"]}, "no command uses the parameter 'mode', so it changes nothing; write {mode}"),
    ({"run": ["echo", "{mod}"]}, "run has the field {mod}, and the space has mode"),
    ({"run": ["no-such-program", "{mode}"]}, "run names the program 'no-such-program', which is not there"),
    ({"run": ["echo", "{mode}"], "formats": {"x": "{}"}}, "formats has 'x'; the parameters are mode"),
    ({"run": ["echo", "{mode}"], "formats": {"mode": "-m"}}, "has no {} for the value 'a'"),
    ({"run": ["echo", "{mode}"], "formats": {"mode": 3}}, "the format of 'mode' is 3; give a text"),
    ({"run": ["echo", "{mode}"], "cwd": "/no/where"}, "cwd is '/no/where', and there is no such folder"),
    ({"run": ["echo", "{mode}"], "reference": Path("/no/file")}, "the reference '/no/file' cannot be read"),
    ({"run": ["echo", "{mode}"], "time": "cpu"}, "time is 'cpu'; give \"wall\", OutputPattern"),
    ({"run": ["echo", "{mode}"], "repeats": 0}, "repeats is 0; give a whole number from 1"),
    ({"run": ["echo", "{mode}"], "exit_codes": 0}, "exit_codes is 0; give the codes of a run"),
    ({"run": ["echo", "{mode}"], "checker": 3}, "checker is 3; give a function"),
    ({"run": ["echo", "{mode}"], "sources": "a.c"}, "sources is 'a.c'; give a list of files"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES, ids=[one[1][:40] for one in MISTAKES])
def test_mistakes_are_found_before_anything_is_measured(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EvaluatorError) as raised:
        CommandEvaluator(**settings).open(SPACE)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_parameter_may_not_have_the_name_of_a_field() -> None:
    with pytest.raises(EvaluatorError, match="a parameter is called 'program', which is a field of every command"):
        CommandEvaluator(["echo", "{program}"]).open(Space({"program": Boolean()}))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_c_program_is_compiled_with_its_flags(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\nint main(void) { printf("took %d ms\\n", TILE); return 0; }\n'
    )
    evaluator = CommandEvaluator(
        ["{program}"], ["gcc", "{level}", "-DTILE={tile}", "main.c", "-o", "{program}"], cwd=tmp_path,
        formats={"level": "-O{}"}, time=OutputPattern(r"took (\d+) ms"), repeats=1, warmups=0,
    )  # fmt: skip
    found = outcome_of(evaluator, {"level": 0, "tile": 7})
    assert isinstance(found, Timed), found
    assert found.times_ms == (7.0,)
