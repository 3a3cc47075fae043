"""Finished runs: their keys, and files of them that are damaged or no files."""

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autotune.core.strategies.registry import STRATEGIES
from autotune.studies import runs as run_files
from autotune.studies.recordings import write_recording
from autotune.studies.runner import run_study
from autotune.studies.runs import case_digest
from autotune.studies.spec import StrategyEntry, StudyError, StudySpec, list_cases
from tests.studies.small_study import SPEC, recording, tables_text


def test_a_damaged_line_is_named(folder: Path) -> None:
    tables_text(SPEC, folder, out=folder / "out")
    runs = folder / "out" / "runs.jsonl"
    lines = runs.read_bytes().splitlines(keepends=True)
    runs.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[3:]]))
    with pytest.raises(StudyError, match="line 3"):
        tables_text(SPEC, folder, out=folder / "out")


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
