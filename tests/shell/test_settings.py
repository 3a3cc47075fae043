"""Settings from the environment: types, precedence, and where they reach."""

import os
from pathlib import Path

import pytest

from autotune import Budget, CallableEvaluator, Environment, PatternSearch, PlanError, environment, triton_cache_dir
from autotune.core.errors import CacheError
from autotune.shell.cache.cache import get_cache_dir
from autotune.shell.options import Options, new_journal_path, resolve_options
from autotune.shell.settings import SETTINGS, resolve_setting, unknown_variables, variable_name
from tests.support import DOCS

VALUES = {
    "cache_dir": ("/x", Path("/x")),
    "effort": ("quick", "quick"),
    "budget_seconds": ("1.5", 1.5),
    "random_seed": ("-3", -3),
    "force": ("1", True),
    "skip_cache": ("off", False),
    "disallow": ("yes", True),
    "log": ("logs", Path("logs")),
    "on_existing": ("continue", "continue"),
    "progress": ("0", False),
    "strategy": ("PatternSearch", "pattern_search"),
    "initial_population": ("from_best_available", "from_best_available"),
    "compile_timeout": ("20", 20.0),
    "benchmark_timeout": ("0.5", 0.5),
    "mode": ("lookup", "lookup"),
    "miss": ("nearest", "nearest"),
    "triton_install": ("1", True),
    "triton_only": ("fla.*, liger_kernel", ("fla.*", "liger_kernel")),
    "triton_skip": ("fla.ops.gla", ("fla.ops.gla",)),
    "triton_hull": ("0", False),
    "triton_report": ("on", True),
}
MISTAKES = {
    "effort": "fast",
    "budget_seconds": "0",
    "random_seed": "1.5",
    "force": "perhaps",
    "on_existing": "overwrite",
    "progress": "2",
    "strategy": "patern_search",
    "initial_population": "from_nothing",
    "compile_timeout": "inf",
    "benchmark_timeout": "nan",
    "mode": "never",
    "miss": "far",
    "triton_hull": "wide",
}


def test_every_setting_has_its_type() -> None:
    assert set(SETTINGS) == set(Environment.__struct_fields__) == set(VALUES)
    found = environment({variable_name(name): f" {text} " for name, (text, _) in VALUES.items()})
    assert found == Environment(**{name: value for name, (_, value) in VALUES.items()})  # type: ignore[arg-type]
    assert environment({}) == environment({variable_name(name): "" for name in VALUES}) == Environment()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_value_is_one_sentence(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        environment({variable_name(name): MISTAKES[name]})
    text = str(caught.value)
    assert text.startswith(f"the environment has {variable_name(name)} = {MISTAKES[name]!r}; use ")


def test_the_documentation_knows_every_variable() -> None:
    text = (DOCS / "reference" / "environment.md").read_text()
    for name, one in SETTINGS.items():
        assert f"| `{variable_name(name)}` | {one.wanted} | {one.default} |" in text


def test_precedence() -> None:
    assert resolve_setting(1, 2, 3) == 1
    assert resolve_setting(None, 2, 3) == 2
    assert resolve_setting(None, None, 3) == 3
    assert resolve_setting(0, 2, 3) == 0, "what is false is said all the same"
    assert unknown_variables({"AUTOTUNE_EFORT": "1", "AUTOTUNE_EFFORT": "quick", "OTHER": ""}) == ["AUTOTUNE_EFORT"]


def options(env: Environment, **given: object) -> Options:
    arguments = {"strategy": None, "effort": None, "budget": None, "seed": None, "journal": None, "settings": None}
    return resolve_options(env, **{**arguments, "progress": None, **given}, label="a kernel/1")  # type: ignore[arg-type]


def test_arguments_go_before_the_environment(tmp_path: Path) -> None:
    env = Environment(**{**{n: v for n, (_, v) in VALUES.items()}, "log": tmp_path / "logs"})  # type: ignore[arg-type]
    found = options(env)
    assert (found.strategy, found.effort, found.budget, found.seed, found.progress) == (
        "pattern_search", "quick", Budget(seconds=1.5), -3, False,
    )  # fmt: skip
    assert found.settings == {"compile_timeout_s": 20.0, "initial_population_strategy": "from_best_available"}
    assert found.journal is not None
    assert found.journal.parent == tmp_path / "logs"
    assert found.journal.name.startswith("a_kernel_1-")
    settings = {"compile_timeout_s": 5, "initial_population_strategy": "from_random"}
    own = options(
        env, strategy="random_search", effort="full", budget=Budget(), seed=0, journal=False, settings=settings,
        progress=True,
    )  # fmt: skip
    assert own == Options(
        strategy="random_search", effort="full", budget=Budget(), seed=0, journal=None, settings=settings, progress=True
    )
    with pytest.warns(UserWarning, match="AUTOTUNE_INITIAL_POPULATION"):
        assert options(env, strategy="random_search").settings == {"compile_timeout_s": 20.0}, "it has no population"
    fixed = PatternSearch(initial_population_strategy="from_random")
    assert "initial_population_strategy" not in options(env, strategy=fixed).settings
    nothing = options(Environment())
    assert (nothing.effort, nothing.budget, nothing.seed, nothing.journal) == ("full", Budget(), 0, None)


def test_timeouts_of_evaluators(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CallableEvaluator(len).build_timeout_s == 60
    monkeypatch.setenv("AUTOTUNE_COMPILE_TIMEOUT", "7")
    monkeypatch.setenv("AUTOTUNE_BENCHMARK_TIMEOUT", "3")
    found = CallableEvaluator(len)
    assert (found.build_timeout_s, found.run_timeout_s) == (7, 3)
    assert CallableEvaluator(len, build_timeout_s=2).build_timeout_s == 2


def test_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path))
    assert get_cache_dir() == tmp_path
    assert triton_cache_dir(0) != triton_cache_dir(1)
    assert triton_cache_dir(1).is_relative_to(tmp_path)
    with pytest.raises(CacheError, match="not the number of a device"):
        triton_cache_dir(-1)
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", "~/c")
    assert get_cache_dir() == Path.home() / "c"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert new_journal_path(Path("~/logs"), "k").parent == tmp_path / "logs"
    monkeypatch.delenv("AUTOTUNE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert "autotune" in os.fspath(get_cache_dir())
