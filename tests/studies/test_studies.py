"""Studies: the same tables however they are run, cut off and continued; what a study's file may say; what comes out."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from autotune.cli import main
from autotune.cli.study import parse_sweep
from autotune.core.errors import PlanError, StrategyError
from autotune.core.strategies.protocol import Done
from autotune.core.strategies.registry import STRATEGIES
from autotune.studies import peers
from autotune.studies import runs as run_files
from autotune.studies.recordings import RecordingHeader, RecordingRow, build_recording, load_recording, write_recording
from autotune.studies.report import write_study
from autotune.studies.runner import run_study
from autotune.studies.runs import case_digest
from autotune.studies.scores import Baseline, kernel_names
from autotune.studies.simulation import Trace
from autotune.studies.spec import StrategyEntry, StudyError, StudySpec, list_cases, load_study, recording_paths
from autotune.studies.tables import StudyTable, study_tables
from tests.support import ROOT

SPACES = Path(os.environ.get("AUTOTUNE_SPACES", ROOT.parent / "shared" / "spaces"))

AUTOTUNE = (sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())")

SPEC = StudySpec(
    strategies=(
        StrategyEntry(name="random_search"),
        StrategyEntry(name="pattern_search", label="hill", settings={"initial_population": 5, "copies": 2}),
    ),
    recordings=("*.json",),
    seeds=7,
    evaluations=40,
)


def recording(name: str, kernel: str = "", shift: int = 3, partial: bool = False, slope: float = 1.0) -> Any:
    """A bowl over 8 x 8 points with a failing corner and noisy repeats."""
    rows = []
    for x in range(8):
        for y in range(8):
            time_ms = 1.0 + slope * ((x - shift) ** 2 + 0.5 * (y - 5) ** 2)
            samples = tuple(time_ms * factor for factor in (2.0, 0.8, 1.0, 1.3))
            timed: dict[str, Any] = {"time_ms": time_ms, "samples_ms": samples} if x + y <= 12 else {"time_ms": None}
            rows.append(
                RecordingRow(key=f"{x},{y}", codes=(x, y), **timed, compile_s=0.5, run_s=time_ms / 10, framework_s=0.01)
            )
    values = (tuple(range(8)), tuple(range(8)))
    header = RecordingHeader(
        name=name, kernel=kernel, device="d", problem="", parameters=("x", "y"), values=values, partial=partial
    )
    return build_recording(header, rows[: 50 if partial else 64])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shift in (("a__one", 2), ("a__two", 6), ("b__one", 0)):
        write_recording(recording(name, name[0], shift), tmp_path / f"{name}.json")
    return tmp_path


def texts(spec: StudySpec, folder: Path, **options: Any) -> str:
    return "\n".join(table.csv() for table in study_tables(run_study(spec, folder, **options)))


def test_the_tables_are_the_same_bytes_whatever_runs_them(folder: Path) -> None:
    alone = texts(SPEC, folder)
    assert texts(SPEC, folder, jobs=2, out=folder / "out") == alone
    assert texts(SPEC, folder, out=folder / "out") == alone


def test_what_is_finished_is_not_run_again(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    first = texts(SPEC, folder, out=folder / "out", progress=lambda *at: told.append(at))
    assert told[0] == (0, 42)
    assert told[-1] == (42, 42)
    told.clear()
    assert texts(SPEC, folder, out=folder / "out", progress=lambda *at: told.append(at)) == first
    assert told == [(42, 42)]


def test_a_study_cut_anywhere_goes_on(folder: Path) -> None:
    whole = texts(SPEC, folder, out=folder / "out")
    runs = folder / "out" / "runs.jsonl"
    content = runs.read_bytes()
    for share in (0.0, 0.3, 0.77):
        cut = int(len(content) * share)
        runs.write_bytes(content[:cut])
        if content[:cut] and not content[:cut].endswith(b"\n"):
            with pytest.warns(UserWarning, match="torn"):
                assert texts(SPEC, folder, out=folder / "out") == whole
        else:
            assert texts(SPEC, folder, out=folder / "out") == whole
        assert len(runs.read_bytes().splitlines()) == 42


def test_a_damaged_line_is_named(folder: Path) -> None:
    texts(SPEC, folder, out=folder / "out")
    runs = folder / "out" / "runs.jsonl"
    lines = runs.read_bytes().splitlines(keepends=True)
    runs.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[3:]]))
    with pytest.raises(StudyError, match="line 3"):
        texts(SPEC, folder, out=folder / "out")


def test_what_determines_a_run_is_in_its_key(folder: Path) -> None:
    def keys(spec: StudySpec) -> set[str]:
        return {run.key for run in run_study(spec, folder).runs.values()}

    small = msgspec.structs.replace(SPEC, seeds=1, recordings=("a__one.json",), strategies=SPEC.strategies[1:])
    changes: list[dict[str, Any]] = [
        {"seeds": (1,)},
        {"evaluations": 39},
        {"batch": 2},
        {"noise": "resample"},
        {"compile_workers": 2},
        {"settings": {"initial_population": 6}, "strategies": (StrategyEntry(name="pattern_search"),)},
        {"effort": "quick"},
        {"settings": {"cutoff_factor": 2.0}},
        {"settings": {"verify_rounds": 21}},  # what tune does by default, and a study does not
    ]
    seen = keys(small)
    for change in changes:
        changed = keys(msgspec.convert({**msgspec.to_builtins(small), **msgspec.to_builtins(change)}, StudySpec))
        assert not changed & seen, change
        seen |= changed
    write_recording(recording("a__one", "a", 4), folder / "a__one.json")
    assert not keys(small) & seen
    renamed = msgspec.structs.replace(
        small, strategies=(StrategyEntry(name="PatternSearch", label="x", settings=SPEC.strategies[1].settings),)
    )
    assert case_digest(small, list_cases(small)[0]) == case_digest(
        renamed, list_cases(renamed)[0]
    )  # a label is a label


def test_a_run_depends_on_the_code_that_its_strategy_imports_and_on_no_other_strategy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "autotune"
    shutil.copytree(run_files.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(run_files, "ROOT", root)
    modules = {name: STRATEGIES[name].__module__ for name in ("pattern_search", "lfbo_tree_search", "random_search")}
    modules["peer"] = "autotune.interop.peers.optuna"

    def digests() -> dict[str, str]:
        run_files.library_digest.cache_clear()
        return {name: run_files.library_digest(module) for name, module in modules.items()}

    depends = {
        "core/strategies/pattern_search.py": {"pattern_search", "lfbo_tree_search"},
        "core/strategies/moves.py": {"pattern_search", "lfbo_tree_search"},
        "core/strategies/lfbo.py": {"lfbo_tree_search"},
        "core/models/forest.py": {"lfbo_tree_search"},
        "core/models/gp.py": set(),
        "core/strategies/registry.py": set(),
        "core/strategies/protocol.py": {"pattern_search", "lfbo_tree_search", "random_search"},
        "interop/peers/accounting.py": {"peer"},
        "interop/peers/helion.py": set(),
        "core/space.py": set(modules),
        "studies/recordings/rows.py": set(modules),
        "shell/evaluators/simulated.py": set(modules),
    }
    before = digests()
    for file, who in depends.items():
        (root / file).write_bytes((root / file).read_bytes() + b"\n# changed\n")
        after = digests()
        assert {name for name in modules if after[name] != before[name]} == who, file
        before = after
    run_files.library_digest.cache_clear()


def test_a_killed_study_loses_only_what_was_under_way(folder: Path) -> None:
    spec = folder / "s.toml"
    spec.write_text(
        'recordings = ["*__*.json"]\nseeds = 120\nevaluations = 60\n[[strategies]]\nname = "differential_evolution"\n'
    )
    command = [*AUTOTUNE, "study", str(spec), "--out", str(folder / "out"), "--jobs", "2"]
    runs = folder / "out" / "runs.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (runs.exists() and runs.stat().st_size > 2000):
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = runs.read_bytes().rpartition(b"\n")[0].splitlines()
    assert 0 < len(kept) < 360
    for _ in range(100):  # the workers end by themselves
        if not _members(process.pid):
            break
        time.sleep(0.1)
    assert not _members(process.pid)
    told: list[int] = []
    loaded = load_study(spec)
    run_study(loaded, folder, out=folder / "out", progress=lambda done, _: told.append(done))
    assert told[0] == len(kept)


def _members(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-g", str(group)], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "Z" not in line]


def test_ctrl_c_says_how_to_go_on(folder: Path) -> None:
    spec = folder / "s.json"
    spec.write_bytes(msgspec.json.encode(msgspec.structs.replace(SPEC, seeds=2000, recordings=("*__*.json",))))
    command = [*AUTOTUNE, "study", str(spec), "--out", str(folder / "out"), "--jobs", "2"]
    heeding = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heeding)
    runs = folder / "out" / "runs.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (runs.exists() and runs.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines() == [f"autotune: stopped; the same command goes on with the runs in {folder / 'out'}"]


def test_a_sweep_runs_each_value_and_shows_its_effect(folder: Path) -> None:
    swept = msgspec.structs.replace(SPEC, sweep={"copies": (1, 2), "count": (30,)})
    cases = list_cases(swept)
    assert [case.label for case in cases] == ["random_search count=30", "hill copies=1", "hill copies=2"]
    assert cases[2].settings == {"initial_population": 5, "copies": 2}
    table = next(table for table in study_tables(run_study(swept, folder)) if table.name == "sweep")
    assert [row[:3] for row in table.rows] == [
        ("random_search", "-", "30"), ("hill", "1", "-"), ("hill", "2", "-"),
    ]  # fmt: skip
    effects = dict(zip(table.header, table.rows[1], strict=True))
    assert effects["P by time effect"] == effects["P by time effect high"] == "0.000"


def test_noise_splits_the_loss(folder: Path) -> None:
    noisy = msgspec.convert({**msgspec.to_builtins(SPEC), "noise": "resample"}, StudySpec)
    write_recording(recording("c__flat", slope=0.01), folder / "c__flat.json")
    result = run_study(noisy, folder)
    table = next(table for table in study_tables(result) if table.name == "losses")
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert len(rows) == 8
    for row in rows:
        parts = float(row["exploration"]) + float(row["selection"])
        assert parts == pytest.approx(float(row["in all"]), abs=2e-4)
    assert any(float(row["selection"]) > 0 for row in rows)
    assert "losses" not in {table.name for table in study_tables(run_study(SPEC, folder))}


def test_nothing_but_recorded_points_is_measured(tmp_path: Path) -> None:
    write_recording(recording("p__x", partial=True), tmp_path / "p.json")
    result = run_study(msgspec.structs.replace(SPEC, evaluations=64), tmp_path)
    assert result.benchmarks[0].evaluations == 50
    for run in result.runs.values():
        assert len(set(run.rows)) == len(run.rows) <= 50
        assert max(run.rows) < 50


def test_the_kernel_of_a_recording() -> None:
    told = [recording("conv__a", "conv_kernel"), recording("conv__b"), recording("other__c"), recording("plain")]
    assert kernel_names(told) == ("conv_kernel", "conv_kernel", "other", "plain")


@pytest.mark.skipif(not SPACES.is_dir(), reason="the shared recordings are not here")
@pytest.mark.parametrize(("name", "budget"), [("convolution_milo__MI250X", 46), ("dedispersion_milo__W6600", 2334)])
def test_budgets_of_known_recordings(name: str, budget: int) -> None:
    assert Baseline(load_recording(SPACES / f"{name}.json.gz")).budget == budget


# What a study's file may say


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('recordings = ["x"]\nstrategies = []', "at least one strategy"),
        ('recordings = ["x"]\n[[strategies]]\nnam = "random_search"', "nam"),
        ('recordings = ["x"]\nseeds = 0\n[[strategies]]\nname = "random_search"', "seeds = 0"),
        ('recordings = ["x"]\nseeds = [1, 1]\n[[strategies]]\nname = "random_search"', "distinct"),
        ('recordings = ["x"]\nevaluations = "all"\n[[strategies]]\nname = "random_search"', "evaluations"),
        ('recordings = ["x"]\nbatch = 0\n[[strategies]]\nname = "random_search"', "batch = 0"),
        ('recordings = ["x"]\neffort = "huge"\n[[strategies]]\nname = "random_search"', "huge"),
        ('recordings = ["x"]\nnoise = "loud"\n[[strategies]]\nname = "random_search"', "noise"),
        ("recordings = [", "s.toml"),
    ],
)
def test_a_file_that_is_wrong_says_so(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(StudyError, match=re.escape(says)) as caught:
        load_study(tmp_path / "s.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"strategies": (StrategyEntry(name="random"),)}, StrategyError, "random_search"),
        (
            {"strategies": (StrategyEntry(name="random_search"), StrategyEntry(name="random_search"))},
            StudyError,
            "label",
        ),
        ({"strategies": (StrategyEntry(name="pattern_search", settings={"copy": 1}),)}, StrategyError, "copies"),
        ({"strategies": (StrategyEntry(name="pattern_search", effort="x"),)}, PlanError, "effort"),
        (
            {"strategies": (StrategyEntry(name="pattern_search", label="me", settings={"reserve": True}),)},
            PlanError,
            "me: .*reserve",
        ),
        ({"settings": {"nothing": 1}}, StudyError, "nothing"),
        ({"sweep": {"nothing": (1,)}}, StudyError, "nothing"),
        ({"recordings": ("*.csv",)}, StudyError, "csv"),
        ({"exclude": ("*",)}, StudyError, "exclude"),
        ({"strategies": (StrategyEntry(name="nobody:x"),)}, StrategyError, "nobody"),
    ],
)
def test_a_study_that_cannot_work_says_so_before_it_runs(
    folder: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run_study(msgspec.structs.replace(SPEC, **change), folder, out=folder / "out")
    assert not (folder / "out" / "runs.jsonl").exists()


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(msgspec.json.encode(SPEC))
    (tmp_path / "s.toml").write_text(
        'recordings = ["*.json"]\nseeds = 7\nevaluations = 40\n[[strategies]]\nname = "random_search"\n[[strategies]]\n'
        'name = "pattern_search"\nlabel = "hill"\nsettings = { initial_population = 5, copies = 2 }\n'
    )
    assert load_study(tmp_path / "s.json") == load_study(tmp_path / "s.toml") == SPEC


def test_recordings_are_found_sorted_once_and_without_the_excluded(folder: Path) -> None:
    spec = msgspec.structs.replace(
        SPEC, recordings=("b*.json", "*.json", str(folder / "a__one.json")), exclude=("*two*",)
    )
    assert [path.name for path in recording_paths(spec, folder)] == ["a__one.json", "b__one.json"]


def test_sweeps_on_the_command_line() -> None:
    assert parse_sweep(["copies=1,2,5", "x=a,true", "y=[1,2]", 'z="a,b"', "w=0.5"]) == {
        "copies": (1, 2, 5), "x": ("a", True), "y": ([1, 2],), "z": ("a", "b"), "w": (0.5,),
    }  # fmt: skip


# Peers and strategies of others


class EveryOther:
    """A tuner that measures the even rows in order, each twice."""

    version = "1"

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def run(self, simulation: Any, evaluations: int, seed: int, batch: int | None) -> Trace:
        keys = [key for key in simulation.recording.keys[::2] for _ in range(2)][: 2 * evaluations + 5]
        return Trace(
            space=simulation.recording.name, peer="fake:even", seed=seed, keys=tuple(keys), own_end=True,
            cpu_s=0.0, wall_s=0.0, rejected=0,
        )  # fmt: skip


def make_every_other(name: str, settings: Any) -> EveryOther:
    return EveryOther(settings)


@pytest.fixture
def own_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the registry of peers as it was."""
    monkeypatch.setattr(peers, "_registered", peers.registered_peers())


@pytest.mark.usefixtures("own_peers")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_registered_peer_works_in_every_process(folder: Path, jobs: int) -> None:
    peers.register_peer("fake", make_every_other)
    spec = msgspec.structs.replace(SPEC, strategies=(StrategyEntry(name="fake:even"),))
    assert run_study(spec, folder, jobs=jobs).runs["fake:even", "a__one", 6].rows == tuple(range(0, 64, 2))


@pytest.mark.usefixtures("own_peers")
def test_a_peer_is_judged_as_the_others_are(folder: Path) -> None:
    peers.register_peer("fake", make_every_other)
    spec = msgspec.structs.replace(
        SPEC, strategies=(StrategyEntry(name="fake:even"), StrategyEntry(name="random_search"))
    )
    result = run_study(spec, folder)
    run = result.runs["fake:even", "a__one", 0]
    assert run.rows == tuple(range(0, 64, 2))
    times = result.benchmarks[0].scorer.recording.time_ms
    assert times[run.picked] == np.nanmin(times[::2])
    few = run_study(msgspec.structs.replace(spec, evaluations=3), folder)
    assert few.runs["fake:even", "a__one", 0].rows == (0, 2, 4)
    with pytest.raises(StudyError, match="without noise"):
        list_cases(msgspec.convert({**msgspec.to_builtins(spec), "noise": "resample"}, StudySpec))


def test_a_peer_is_found_by_the_entry_point_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebody-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[autotune.peers]\nsomebody = somebodys_adapter:make\nbroken = no_such_module:make\n"
    )
    (tmp_path / "somebodys_adapter.py").write_text("def make(name, settings):\n    return name, settings\n")
    monkeypatch.syspath_prepend(tmp_path)
    found: Any = peers.find_peer("somebody:best", {"size": 3})
    assert found == ("best", {"size": 3})
    with pytest.raises(StrategyError, match=r"broken:x: no_such_module:make cannot be imported .*; install it"):
        peers.find_peer("broken:x", {})
    with pytest.raises(StrategyError, match=r"no tuner is called 'nobody' .*; there are .*broken.*somebody"):
        peers.find_peer("nobody:x", {})


class FirstRow(msgspec.Struct, frozen=True, tag="first_row_of_tests"):
    """Does nothing, or breaks."""

    broken: bool = False

    def init(self, space: Any, seeds: Any, key: Any) -> None:
        return None

    def propose(self, space: Any, state: None, ask: Any, key: Any) -> Done:
        if self.broken:
            raise ZeroDivisionError("broken on purpose")
        return Done("nothing to do")

    def observe(self, space: Any, state: None, seen: Any) -> None:
        return None


@pytest.mark.parametrize("jobs", [1, 2])
def test_registered_strategies_work_in_every_process(folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setitem(STRATEGIES, "first_row_of_tests", FirstRow)
    spec = msgspec.structs.replace(SPEC, strategies=(StrategyEntry(name="first_row_of_tests"),))
    result = run_study(spec, folder, jobs=jobs)
    assert {run.rows for run in result.runs.values()} == {()}
    assert {run.picked for run in result.runs.values()} == {None}
    assert all(score.by_time < 0.5 and score.final == 0 for score in result.scores["first_row_of_tests", "a__one"])
    broken = msgspec.structs.replace(
        spec, strategies=(StrategyEntry(name="first_row_of_tests", settings={"broken": True}),)
    )
    with pytest.raises(StudyError, match=r"first_row_of_tests on a__one.json, seed 0: ZeroDivisionError"):
        run_study(broken, folder, jobs=jobs)


# What comes out


def test_the_command_writes_everything_and_repeats_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, outs = folder / "s.json", (folder / "x", folder / "y")
    small = msgspec.structs.replace(SPEC, name="A <small> study", recordings=("*__*.json",))
    spec.write_bytes(msgspec.json.encode(small))
    for out, jobs in zip(outs, ("1", "2"), strict=True):
        assert main(["study", str(spec), "--out", str(out), "--jobs", jobs, "--seeds", "3", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "Each strategy, mean over recordings and kernels" in printed
    names = {path.name for path in outs[0].iterdir()}
    assert {"overall.csv", "by_recording.csv", "recordings.csv", "pairs.csv", "tables.md", "report.html"} <= names
    for name in names - {"own_time.csv", "runs.jsonl"}:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    again = load_study(outs[0] / "study.json")
    assert again == msgspec.structs.replace(small, seeds=3)


def test_json_is_the_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = folder / "s.toml"
    spec.write_text('recordings = ["a__*.json"]\nseeds = 2\nevaluations = 9\n[[strategies]]\nname = "random_search"\n')
    assert main(["study", str(spec), "--out", str(folder / "out"), "--json", "--quiet"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert tables["overall"][0]["strategy"] == "random_search"
    assert len(tables["recordings"]) == 2
    assert "pairs" not in tables


def test_a_terminal_gets_fewer_columns_and_the_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = folder / "s.toml"
    spec.write_text('recordings = ["a__*.json"]\nseeds = 2\nevaluations = 9\n[[strategies]]\nname = "pattern_search"\n')
    assert main(["study", str(spec), "--out", str(folder / "out"), "--quiet", "--set", "initial_population=3,5"]) == 0
    printed = capsys.readouterr().out
    assert "pattern_search initial_population=5" in printed
    assert "P by time effect high" in printed
    assert "P by evaluations effect" not in printed
    assert max(map(len, printed.splitlines())) < 150
    curves = (folder / "out" / "curves.csv").read_text().splitlines()
    assert len(curves) == 1 + 2 * 2 * 2 * 50


def test_the_report_needs_nothing_else(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run_study(msgspec.structs.replace(SPEC, name="<b>"), folder)
    write_study(result, study_tables(result), folder / "out")
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "&lt;b&gt;" in page
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|src=", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(ids)


def test_without_matplotlib_there_are_tables_and_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run_study(SPEC, folder)
    notes = write_study(result, study_tables(result), folder / "out")
    assert any("autotune[plots]" in note for note in notes)
    assert "autotune[plots]" in (folder / "out" / "report.html").read_text()


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import autotune.studies.runner, autotune.studies.report, autotune.cli.study, sys; " + (
        "print({'matplotlib', 'rich', 'sklearn', 'helion', 'kernel_tuner', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("content", [b"[" * 100_000 + b"\n", b'{"key":"\xff"}\n', b'{"key": "\\ud800"}\n'])
def test_runs_with_hostile_content_are_one_sentence(folder: Path, content: bytes) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "runs.jsonl").write_bytes(content)
    with pytest.raises(StudyError, match=r"runs\.jsonl, line 1"):
        run_study(SPEC, folder, out=folder / "out")


def test_runs_that_are_no_regular_file_are_refused(folder: Path) -> None:
    (folder / "out").mkdir()
    os.mkfifo(folder / "out" / "runs.jsonl")
    with pytest.raises(StudyError, match="a FIFO"):
        run_study(SPEC, folder, out=folder / "out")


# Cells that are not ours


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x","y")', " =1", "-a", "\n=1", "+", "=1\r=1"],
)
def test_a_cell_that_a_spreadsheet_would_calculate_is_text(cell: str) -> None:
    table = StudyTable(name="t", title="T", header=(cell, "b"), rows=((cell, "1"),))
    text = "'" + " ".join(cell.splitlines())
    assert list(csv.reader(io.StringIO(table.csv(), newline=""))) == [[text, "b"], [text, "1"]]
    assert len(table.markdown().splitlines()) == 5


@pytest.mark.parametrize("cell", ["-0.170", "+3", "-1e-5", "-1,000", "never", "", "-", "a=b", "a-b", "12 %", "-5%"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    text = StudyTable(name="t", title="T", header=("a",), rows=((cell,),)).csv()
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] in ([[cell]], [[]])


def test_a_label_that_is_a_formula_is_text_in_every_table(folder: Path) -> None:
    entry = StrategyEntry(name="random_search", label="=1+1")
    spec = StudySpec(strategies=(entry,), recordings=("*.json",), seeds=1, evaluations=5)
    result = run_study(spec, folder, out=folder / "out")
    write_study(result, study_tables(result), folder / "out")
    for path in (folder / "out").glob("*.csv"):
        text = path.read_text()
        assert "'=1+1" in text or "=1+1" not in text
        assert not re.search(r"(^|,)=", text, re.MULTILINE), path
