"""Strategies of installed packages, in fresh processes that find them by their entry points alone."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from autotune import Integer, Space, StrategyError
from autotune.core.strategies import registry
from autotune.shell import installed_strategies as installed
from autotune.shell.installed_strategies import find_installed, installed_names, load_installed
from autotune.studies.recordings import load_recording

STRATEGY = """
from typing import Any
import numpy as np
from msgspec import Struct
from autotune.core.strategies.protocol import Done, Proposals

class Sweep(Struct, frozen=True):
    \"\"\"Every valid config in order.\"\"\"

    count: int = 30

    def init(self, space, seeds, key):
        return space.rows()

    def propose(self, space, state, ask, key):
        points = state[ask.fresh(state)][: min(4, self.count - ask.proposed)]
        return Proposals(points, np.zeros(len(points), np.int64)) if len(points) else Done("the sweep is over")

    def observe(self, space, state, seen):
        return state
"""


def install(folder: Path, package: str, source: str, points: dict[str, str], version: str = "1.0") -> None:
    """Write a package and its metadata as an installer does."""
    (folder / package).mkdir(parents=True)
    (folder / package / "search.py").write_text(source)
    (folder / package / "__init__.py").write_text("")
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[autotune.strategies]", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages, one of which is right."""
    install(tmp_path / "site", "sweeping", STRATEGY, {"sweep": "sweeping.search:Sweep"})
    return tmp_path / "site"


@pytest.fixture
def here(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, for lookups in this process; what they register is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "STRATEGIES", dict(registry.STRATEGIES))
    return site


def run(site: Path, folder: Path, *command: str) -> str:
    """The output of a fresh process that has the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    ran = subprocess.run([sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_works_wherever_a_strategy_does(site: Path, tmp_path: Path) -> None:
    """tune by name and by instance, resume, replay, show and simulate, each in a process of its own."""
    (tmp_path / "problem.py").write_text(
        textwrap.dedent("""
        from autotune import CallableEvaluator, Integer, Problem, Space
        problem = Problem(Space({"a": Integer(1, 12)}, default={"a": 1}),
                          CallableEvaluator(lambda config: lambda: None, isolation="in_process"))
        """)
    )
    cli = ("-m", "autotune")
    run(site, tmp_path, *cli, "tune", "problem.py", "--strategy", "sweep", "--journal", "one.jsonl")
    assert b'"name":"sweep"' in (tmp_path / "one.jsonl").read_bytes()
    code = """
    import autotune
    from sweeping.search import Sweep
    from problem import problem
    found = autotune.tune(problem.space, problem.evaluator, Sweep(count=5), journal="two.jsonl", progress=False)
    print(found.evaluations)
    """
    assert run(site, tmp_path, "-c", textwrap.dedent(code)).strip() == "6", "the default and five more"
    assert b'"name":"sweep"' in (tmp_path / "two.jsonl").read_bytes(), "an instance has the name of its entry point"
    lines = (tmp_path / "one.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    run(site, tmp_path, *cli, "resume", "cut.jsonl", "problem.py")
    run(site, tmp_path, *cli, "replay", "cut.jsonl")
    assert "sweep" in run(site, tmp_path, *cli, "show", "cut.jsonl")
    simulated = run(
        site, tmp_path, *cli, "simulate", "builtin:rms_norm", "--strategy", "sweep", "--evaluations", "9", "--json"
    )
    assert json.loads(simulated)["runs"][0]["evaluated"] == 9


@pytest.mark.slow
def test_a_study_runs_it_in_its_workers(site: Path, tmp_path: Path) -> None:
    recording = load_recording("builtin:rms_norm").name
    strategies = [{"name": "sweep"}, {"name": "random_search"}]
    spec = {"recordings": ["builtin:rms_norm"], "strategies": strategies, "seeds": 2, "evaluations": 8}
    (tmp_path / "study.json").write_text(json.dumps(spec))
    found = {}
    for jobs in ("1", "2"):
        run(site, tmp_path, "-m", "autotune", "study", "study.json", "--jobs", jobs, "--out", f"out{jobs}")
        lines = (tmp_path / f"out{jobs}" / "runs.jsonl").read_text().splitlines()
        runs = [json.loads(line) for line in lines]
        found[jobs] = sorted((one["strategy"], one["recording"], one["seed"], one["rows"]) for one in runs)
    assert found["1"] == found["2"]
    assert [one[:2] for one in found["1"] if one[0] == "sweep"] == [("sweep", recording)] * 2


def test_names_and_classes_are_found_and_registered_once(here: Path) -> None:
    assert "sweep" in installed_names()
    assert "sweep" not in registry.STRATEGIES
    assert registry.canonical_name("sweep") == "sweep"
    kind = registry.STRATEGIES.pop("sweep")
    assert registry.canonical_name("Sweep") == "sweep", "by the name of its class"
    registry.STRATEGIES.pop("sweep")
    assert registry.name_of(kind(count=3)) == "sweep"
    assert registry.make_strategy("sweep", {"count": 4}) == kind(count=4)
    assert find_installed(Space) is None
    assert load_installed("no_such_name") is None
    with pytest.raises(StrategyError, match=r"did you mean 'sweep'\?"):
        registry.canonical_name("swep")


@pytest.mark.parametrize(
    ("source", "value", "words"),
    [
        ("import no_such_module\n", "broken.search:Sweep", r"'mine' of broken 2.0 cannot be loaded.*no_such_module"),
        (
            "raise SystemError('odd')\n",
            "broken.search:Sweep",
            r"loaded from broken.search:Sweep .SystemError",
        ),
        ("", "broken.search:Sweep", r"AttributeError.*Sweep"),
        ("Sweep = 3\n", "broken.search:Sweep", r"3 is not a msgspec Struct"),
        ("class Sweep:\n    pass\n", "broken.search:Sweep", r"is not a msgspec Struct"),
    ],
)
def test_one_that_cannot_be_loaded_is_one_sentence(source: str, value: str, words: str, here: Path) -> None:
    install(here, "broken", source, {"mine": value}, "2.0")
    try:
        with pytest.raises(StrategyError, match=words) as caught:
            registry.canonical_name("mine")
        assert "\n" not in str(caught.value)
        assert registry.canonical_name("sweep") == "sweep", "the others can be used"
    finally:
        for name in ("broken.search", "broken"):
            sys.modules.pop(name, None)


def test_a_name_of_two_packages_is_one_sentence(here: Path) -> None:
    install(here, "other", STRATEGY, {"sweep": "other.search:Sweep"}, "3.1")
    with pytest.raises(StrategyError, match=r"'sweep' is declared by other 3.1 \(.*\) and sweeping 1.0 \(.*\)"):
        registry.canonical_name("sweep")


def test_a_name_that_is_registered_is_not_looked_up(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's names belong to the library, and no metadata is read for them."""
    install(here, "other", STRATEGY, {"random_search": "other.search:Sweep"})

    def refuse(**_: str) -> None:
        raise AssertionError("metadata was read")

    monkeypatch.setattr(installed, "entry_points", refuse)
    strategy = registry.make_strategy("random_search", {"count": 3})
    assert registry.name_of(strategy) == "random_search"
    assert Space({"a": Integer(1, 2)}).count() == 2


def test_importing_the_library_looks_for_none() -> None:
    code = (
        "import importlib.metadata as metadata; metadata.entry_points = None;"
        "import autotune, autotune.studies; autotune.STRATEGIES, autotune.tune, autotune.resume; print('fine')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "fine"
