"""Our search inside of Helion, on the config specs of real kernels; made-up times stand for a GPU's."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autotune import Boolean, Choice, Integer, Permutation, PowerOfTwo, Result, Space
from autotune.core.config import Config, freeze
from autotune.core.errors import PlanError, SpaceError, StrategyError
from autotune.core.keys import root
from autotune.shell.journal import read_journal
from autotune.shell.replay import replay
from tests.support import DOCS

helion = pytest.importorskip("helion")
torch = pytest.importorskip("torch")

from helion.autotuner import config_fragment as fragments  # noqa: E402
from helion.autotuner import config_spec  # noqa: E402
from helion.autotuner.base_search import BaseAutotuner  # noqa: E402
from helion.autotuner.benchmark_provider import BenchmarkProvider, BenchmarkResult  # noqa: E402
from helion.exc import NoConfigFound  # noqa: E402

from autotune.backends.helion import autotuner as autotuner_module  # noqa: E402
from autotune.backends.helion import space as translation  # noqa: E402
from autotune.backends.helion.repair_rules import find_exclusions, find_reset_rules, find_rules, find_switch_rules  # noqa: E402
from autotune.backends.helion.space import (  # noqa: E402
    HelionSpace,
    make_field,
    make_space,
)
from autotune.helion import autotuner  # noqa: E402

BENCHMARKS = DOCS / "benchmarks"
NAMES = ("matmul", "rms_norm", "softmax", "attention")


def bound(kernels: ModuleType, name: str, **settings: Any) -> Any:
    kernel = kernels.KERNELS[name]
    settings = {"autotune_log_level": 0, "autotune_random_seed": 5, "autotune_benchmark_fn": benchmarked, **settings}
    return kernel.make(**settings).bind(kernel.arguments("cpu"))


def generation(kernel: Any) -> Any:
    return kernel.config_spec.create_config_generation(overrides=kernel.settings.autotune_config_overrides or None)


def benchmarked(functions: list[Callable[[], float]], repeat: int = 1, desc: str | None = None) -> list[float]:
    """What stands for timing in this process: the functions know their times."""
    return [function() for function in functions]


def made_up_ms(config: Any) -> float:
    """Best with 8 warps and blocks of 64."""
    blocks = sum(abs(math.log2(block) - 6) for block in config.config["block_sizes"])
    return float(1 + abs(math.log2(config.config["num_warps"]) - 3) + 0.3 * blocks)


class MadeUp(BenchmarkProvider):  # type: ignore[misc]
    """A benchmark provider without a device. It remembers what it was asked for, and with which compile timeout."""

    mutated_arg_indices = ()
    status_of: Callable[[Any], str] = staticmethod(lambda config: "ok")
    delay_s = 0.0

    def __init__(self, **context: Any) -> None:
        self.settings, self.seen, self.timeouts = context["settings"], [], []  # type: ignore[var-annotated]

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def benchmark(self, configs: list[Any], *, desc: str = "", raise_if_no_viable_config: bool = True) -> list[Any]:
        results = []
        for config in configs:
            time.sleep(self.delay_s)
            status, time_ms = self.status_of(config), made_up_ms(config)
            self.seen.append(config)
            self.timeouts.append(self.settings.autotune_compile_timeout)
            fn = (lambda ms: lambda *args: ms)(time_ms)
            results.append(BenchmarkResult(config, fn, time_ms if status == "ok" else math.inf, status, 0.5, 0.0))
        return results


class Run:
    """A search on made-up times: its config, its result, and what the provider saw."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, kernel: Any, *wanted: Any, provider: type = MadeUp, **arguments: Any
    ) -> None:
        searches: list[Any] = []

        class Patched(autotuner_module.StrategySearch):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._benchmark_provider_cls = provider
                searches.append(self)

        monkeypatch.setattr(autotuner_module, "StrategySearch", Patched)
        results: list[Result] = []
        tuner = autotuner(*wanted, cache=False, on_result=results.append, **arguments)(kernel, ())
        self.best = tuner.autotune()
        self.result, self.search = results[0], searches[0]
        self.seen, self.timeouts = self.search.benchmark_provider.seen, self.search.benchmark_provider.timeouts


# HelionSpace


@pytest.mark.parametrize("name", NAMES)
def test_a_point_of_the_space_is_what_helion_makes_of_it(kernels: ModuleType, name: str) -> None:
    made = make_space(generation(bound(kernels, name)))
    assert made.space.size > 10**7
    assert made.space.with_role("num_warps") == ("num_warps",)
    assert all(n.startswith(("block_sizes_", "reduction_loops_")) for n in made.space.with_role("block_size"))
    for point in made.space.decode(made.space.sample(root(2), 100)):
        config = made.project(point)
        assert config is not None
        assert made.point(made.generation.flatten(config)) == point  # nothing was repaired, and nothing is lost
        for parameter, value in point.items():
            key, _, place = parameter.rpartition("_")
            theirs = config.config[key][int(place)] if place.isdigit() else config.config[parameter]
            assert parameter.startswith("reduction_loops") or freeze(theirs) == value


@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_with_descriptors_points_need_no_repair_as_good_as_ever(
    kernels: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config spec of Hopper, as far as it asks for the hardware: register limits and tensor descriptors join."""
    for asked, answer in {
        "supports_tensor_descriptor": True, "supports_maxnreg": True, "get_target_device_capability": (9, 0),
        "_regs_per_block": 65536, "device_num_sm": 132, "num_compute_units": 132,
    }.items():  # fmt: skip
        monkeypatch.setattr(config_spec, asked, lambda *a, answer=answer, **k: answer)
    kernel = kernels.KERNELS[name]
    given = kernel.make().bind(tuple(torch.empty(s, dtype=torch.float16) for s in kernel.large))
    given.config_spec.device, given.config_spec.target_device_capability = torch.device("cuda"), (9, 0)
    theirs = generation(given)
    made = make_space(theirs)
    assert "host_tensor_descriptors" in made.space.names
    assert made.space.parameters["maxnreg"] == Choice((None, 32, 64, 128, 256))
    assert "tensor_descriptor" in made.space.parameters["indexing_0"].describe()
    points = made.space.decode(made.space.sample(root(2), 100))
    repaired = [made.point(made.flat(point)) for point in points]
    assert sum(a == b for a, b in zip(points, repaired, strict=True)) > 97
    for point, canonical in zip(points, repaired, strict=True):
        assert canonical is not None
        assert made.project(canonical) == made.project(point)
    drawn = [made.point(flat) for flat in theirs.random_population_flat(50)]
    assert sum(point is not None for point in drawn) >= 20  # some of Helion's own draws are too large for any thread


@pytest.mark.parametrize("name", NAMES)
def test_the_default_and_helions_own_draws_have_points(kernels: ModuleType, name: str) -> None:
    theirs = generation(bound(kernels, name))
    made = make_space(theirs)
    assert made.space.default == made.point(theirs.default_flat())
    assert made.project(made.space.default or Config()) == theirs.unflatten(theirs.default_flat())
    for flat in theirs.random_population_flat(20):
        point = made.point(flat)
        assert point is not None
        assert made.project(point) == theirs.canonicalize_flat(flat)[1]


def test_what_is_overridden_is_no_parameter(kernels: ModuleType) -> None:
    made = make_space(generation(bound(kernels, "matmul")))
    assert not any(name.startswith(("range_num_stages", "range_unroll")) for name in made.space.names)
    config = made.project(made.space.decode(made.space.sample(root(0), 1))[0])
    assert config is not None
    assert config.config["range_num_stages"] == [0, 0]
    free = make_space(generation(bound(kernels, "matmul", autotune_config_overrides={})))
    assert "range_num_stages_1" in free.space.names


def test_options_of_persistent_kernels_are_tied_to_them(kernels: ModuleType) -> None:
    space = make_space(generation(bound(kernels, "attention"))).space
    for config in space.decode(space.sample(root(1), 200)):
        if config["pid_type"] in ("flat", "xyz"):
            assert config["num_sm_multiplier"] == 1
            assert config["range_flattens_0"] is None
    assert any(config["num_sm_multiplier"] > 1 for config in space.decode(space.sample(root(1), 200)))


def test_limits_on_the_elements_of_a_tile_are_constraints(kernels: ModuleType) -> None:
    wide = torch.empty(8192, 8192, dtype=torch.float16)
    theirs = generation(kernels.KERNELS["matmul"].make().bind((wide, wide)))
    space = make_space(theirs).space
    assert theirs.config_spec.tensor_numel_constraints
    assert any("given rows" in constraint.describe() for constraint in space.constraints)
    for config in space.decode(space.sample(root(1), 200)):
        assert config["block_sizes_0"] * config["block_sizes_1"] <= 2**20


@pytest.mark.parametrize(
    ("fragment", "parameter"),
    [
        (fragments.BlockSizeFragment(16, 128), PowerOfTwo(16, 128, role="block_size")),
        (fragments.NumWarpsFragment(1, 32), PowerOfTwo(1, 32, role="num_warps")),
        (fragments.PowerOfTwoFragment(1, 64), PowerOfTwo(1, 64)),
        (fragments.IntegerFragment(0, 4), Integer(0, 4)),
        (fragments.IntegerFragment(3, 3), None),
        (fragments.BooleanFragment(), Boolean()),
        (fragments.PermutationFragment(3), Permutation(3)),
        (fragments.PermutationFragment(1), None),
        (fragments.EnumFragment((None, False, True)), Choice((None, False, True))),
        (fragments.EnumFragment(("a", "b", "c"), search_choices=("a", "c")), Choice(("a", "c"))),
        (fragments.EnumFragment(("pointer",)), None),
        (fragments.EnumFragment(([1, 0], [0, 1])), Choice(((1, 0), (0, 1)))),
        (fragments.NumThreadsFragment(8), Choice((0, 1, 2, 4, 8), ordered=True)),
    ],
)
def test_every_fragment_has_its_parameter(fragment: Any, parameter: Any) -> None:
    field = make_field(fragment)
    assert (field and field.parameter) == parameter
    if field is not None:
        for value in parameter.decode(parameter.unrank(np.arange(parameter.size))):
            assert field.ours(field.theirs(value)) == value
        assert field.theirs(field.ours(fragment.default())) == fragment.default()


def test_choices_that_json_cannot_hold_go_by_their_text() -> None:
    strange = object()
    field = make_field(fragments.EnumFragment((strange, 1)))
    assert field is not None
    assert field.parameter == Choice((repr(strange), 1))
    assert field.theirs(repr(strange)) is strange


def test_rules_are_read_off_a_repair_and_nothing_else_is() -> None:
    parameters = {"mode": Choice(("a", "b", "c")), "depth": Integer(1, 4), "free": Integer(0, 3), "odd": Integer(0, 3)}
    space = Space(parameters)
    raw = space.decode(space.sample(root(0), 300))
    repaired = [
        config.replace(depth=1 if config["mode"] in ("a", "c") else config["depth"], odd=config["odd"] // 2 * 2)
        for config in raw
    ]
    ((name, rule),) = find_reset_rules(space, raw, repaired)
    assert name == "depth"
    assert rule in ("depth == 1 or mode not in ('a', 'c',)", "depth == 1 or mode not in ('c', 'a',)")
    assert not list(find_reset_rules(space, raw, raw))
    assert not list(find_reset_rules(space, raw[:9], repaired[:9]))


SWITCHED = Space(
    {
        "on_host": Boolean(), "first": Choice(("pointer", "descriptor")), "second": Choice(("pointer", "descriptor")),
        "num_warps": PowerOfTwo(1, 32), "registers": Choice((None, 64, 128, 256)), "tile": PowerOfTwo(1, 2048),
    }
)  # fmt: skip


def reset(config: Config) -> Config:
    """A repair: without a descriptor there is nothing to do on the host; warps share their registers."""
    described = "descriptor" in (config["first"], config["second"])
    most = {16: 128, 32: 64}.get(config["num_warps"], 256)  # type: ignore[call-overload]
    registers = config["registers"]
    return Config(
        {**config, "on_host": described and config["on_host"], "registers": registers and min(registers, most)}  # type: ignore[type-var]
    )


def test_what_switches_a_parameter_on_is_found_however_many_switches_there_are() -> None:
    default = SWITCHED.check(
        {"on_host": False, "first": "pointer", "second": "pointer", "num_warps": 4, "registers": None, "tile": 16}
    )
    raw = SWITCHED.decode(SWITCHED.sample(root(0), 400))
    repaired = [reset(config) for config in raw]
    rule = "on_host is False or first in ('descriptor',) or second in ('descriptor',)"
    assert find_switch_rules(SWITCHED, default, reset, repaired) == {"on_host": rule}
    assert (
        find_switch_rules(SWITCHED, default, reset, [*repaired, default.replace(on_host=True)]) == {}
    )  # it would not hold
    found = find_rules(SWITCHED, default, reset)
    assert found[0] == rule
    narrow = Space(SWITCHED.parameters, found)
    points = narrow.decode(narrow.sample(root(1), 300))
    assert [reset(point) for point in points] == points  # nothing is left to repair
    every = SWITCHED.unrank(np.arange(SWITCHED.size))
    assert narrow.valid(every).sum() == sum(reset(c) == c for c in SWITCHED.decode(every))


def test_pairs_that_never_last_are_excluded_only_where_they_explain_every_change() -> None:
    raw = [c for c in SWITCHED.decode(SWITCHED.sample(root(0), 600)) if reset(c)["on_host"] == c["on_host"]]
    rules = set(find_exclusions(SWITCHED, raw, [reset(config) for config in raw]))
    assert {rule.partition(" or ")[0] for rule in rules} == {"num_warps not in (16,)", "num_warps not in (32,)"}
    odd = [reset(c).replace(registers=None) if c["tile"] == 16 else reset(c) for c in raw]
    assert not list(find_exclusions(SWITCHED, raw, odd))  # something else changes it as well


# The search


@pytest.mark.parametrize("effort", ["quick", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_best_and_returns_helions_config(
    kernels: ModuleType, name: str, effort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = bound(kernels, name, autotune_effort=effort)
    run = Run(monkeypatch, kernel, "lfbo_tree_search")
    assert isinstance(run.best, helion.Config)
    assert run.best.config["num_warps"] == 8
    assert made_up_ms(run.best) == run.result.best.time_ms <= made_up_ms(kernel.config_spec.default_config())
    assert len(set(run.seen)) == len(run.seen)  # each config once
    assert (len(run.seen) > 200) == (effort == "full")
    assert run.search.best.config == run.best
    kernel.config_spec.normalize(run.best.config)  # raises for a config that is none


def test_helion_calls_it_and_uses_what_it_finds(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Result] = []

    class Patched(autotuner_module.StrategySearch):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._benchmark_provider_cls = MadeUp

    monkeypatch.setattr(autotuner_module, "StrategySearch", Patched)
    tuner = autotuner("pattern_search", evaluations=30, cache=False, on_result=seen.append)
    kernel = bound(kernels, "rms_norm", autotuner_fn=tuner, autotune_effort="quick")
    best = kernel.autotune(kernels.KERNELS["rms_norm"].arguments("cpu"))
    assert seen[0].evaluations == 30
    assert made_up_ms(best) == seen[0].best.time_ms
    assert kernel._config == best


def test_the_same_seed_searches_the_same_way(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = bound(kernels, "softmax")
    one, two = (Run(monkeypatch, kernel, "random_search", evaluations=25) for _ in range(2))
    other = Run(monkeypatch, kernel, "random_search", evaluations=25, seed=6)
    assert one.seen == two.seen
    assert one.seen != other.seen
    sixth = bound(kernels, "softmax", autotune_random_seed=6)
    assert Run(monkeypatch, sixth, "random_search", evaluations=25).seen == other.seen


def test_helions_settings_are_honoured(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"block_sizes": [64, 64], "num_warps": 8}
    kernel = bound(
        kernels, "softmax", autotune_effort="quick", autotune_seed_configs=[helion.Config(**wanted)],
        autotune_config_overrides={"num_stages": 2}, autotune_max_generations=2, autotune_compile_timeout=40,
        autotune_config_filter=lambda config: None if config.config["num_warps"] == 1 else config,
        autotune_rebenchmark_threshold=1.2,
    )  # fmt: skip
    run = Run(monkeypatch, kernel, "lfbo_pattern_search")
    assert all(config.config["num_stages"] == 2 for config in run.seen)
    assert all(config.config["num_warps"] != 1 for config in run.seen)
    assert run.result.counts.get("skipped", 0) > 0
    assert run.seen[1].config["block_sizes"] == [64, 64]  # the seed comes right after the default
    assert run.result.stopped == "generations"
    assert run.timeouts[0] == 40
    assert set(run.timeouts[2:]) <= {30, 40}  # adapted to compiles of half a second, at least the lower bound
    assert kernel.settings.autotune_compile_timeout == 40


def test_a_budget_of_seconds_ends_it(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(MadeUp):
        delay_s = 0.02

    kernel = bound(kernels, "softmax", autotune_budget_seconds=2)
    began = time.monotonic()
    run = Run(monkeypatch, kernel, "random_search", batch=4, provider=Slow)
    assert 1 < time.monotonic() - began < 30
    assert run.result.stopped == "seconds"
    assert 4 < len(run.seen) < 110


def test_from_best_available_begins_with_the_default_alone_where_nothing_is_cached(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = bound(kernels, "softmax", autotune_initial_population_strategy="from_best_available")
    run = Run(monkeypatch, kernel, "pattern_search", evaluations=5, settings={"pad": False})
    assert run.seen[0] == kernel.config_spec.default_config()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("error", "run_error"),
        ("timeout", "run_timeout"),
        ("accuracy_error", "wrong_answer"),
        ("peer_compilation_fail", "compile_error"),
    ],
)
def test_a_config_that_fails_costs_that_config(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, status: str, kind: str
) -> None:
    class Failing(MadeUp):
        status_of = staticmethod(lambda config: status if config.config["num_warps"] > 4 else "ok")

    run = Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=40, provider=Failing)
    assert run.best.config["num_warps"] <= 4
    assert run.result.counts[kind] > 5


def test_where_nothing_works_helion_is_told_so(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(MadeUp):
        status_of = staticmethod(lambda config: "error")

    with pytest.raises(NoConfigFound):
        Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=10, provider=Failing)


def test_points_that_mean_one_config_are_measured_once(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "find_rules", lambda *probes: ())
    fixed = {
        "block_sizes": [64, 64], "range_unroll_factors": [0, 0], "range_num_stages": [0, 0], "num_stages": 2,
        "range_multi_buffers": [None, None], "range_flattens": [None, None], "load_eviction_policies": ["", ""],
    }  # fmt: skip
    kernel = bound(kernels, "softmax", autotune_effort="quick", autotune_config_overrides=fixed)
    run = Run(monkeypatch, kernel, "random_search", settings={"count": 200})
    warps, layouts, multipliers = 6, 3, 8
    assert run.result.evaluations == warps * layouts * multipliers
    assert len(run.seen) == len(set(run.seen)) == warps * (1 + (layouts - 1) * multipliers)
    assert run.result.best.time_ms == made_up_ms(run.best)


def test_a_journal_of_it_replays(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    run = Run(monkeypatch, bound(kernels, "matmul"), "lfbo_tree_search", evaluations=60, journal=path)
    again = replay(path)
    assert again.divergence is None
    assert read_journal(path).header.evaluator["kind"] == "helion"
    assert run.result.evaluations in range(54, 61)  # a tenth is kept for simplification, which need not take all


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"effort": "huge"}, PlanError, "no effort is called 'huge'"),
        ({"strategy": "guess"}, StrategyError, "no strategy is called 'guess'"),
        ({"seconds": -1.0}, PlanError, "seconds = -1.0"),
    ],
)
def test_arguments_that_cannot_be_are_named(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        Run(monkeypatch, bound(kernels, "softmax"), **arguments)


def test_unknown_options_of_helions_autotune_are_named(kernels: ModuleType) -> None:
    with pytest.raises(PlanError, match="copies=…"):
        autotuner("pattern_search")(bound(kernels, "softmax"), (), copies=3)


def test_a_spec_without_a_choice_is_named(kernels: ModuleType) -> None:
    theirs = generation(bound(kernels, "softmax"))
    theirs.__dict__["overridden_flat_indices"] = set(range(len(theirs.flat_spec)))
    with pytest.raises(SpaceError, match="nothing to choose"):
        make_space(theirs)


def test_a_config_outside_of_the_space_has_no_point(kernels: ModuleType) -> None:
    made: HelionSpace = make_space(generation(bound(kernels, "matmul")))
    assert made.point(made.generation.flatten(helion.Config(block_sizes=[16, 16, 1 << 14]))) is None
    assert made.point([]) is None


INTERPRETED = """
import sys, torch, helion
sys.path.insert(0, sys.argv[1])
import helion_kernels
from helion.autotuner import benchmark_provider
from helion.autotuner.benchmarking import do_bench_generic
from autotune.helion import autotuner

def timed(fn, warmup=1, rep=1, return_mode="median", **more):
    return do_bench_generic(fn, warmup=1, rep=1, return_mode=return_mode)

benchmark_provider.do_bench = timed
a, b = torch.randn(64, 32, dtype=torch.float16), torch.randn(32, 64, dtype=torch.float16)
found = []
kernel = helion_kernels.KERNELS["matmul"].make(
    autotune_effort="quick", autotune_random_seed=3, autotune_precompile=None, autotune_benchmark_subprocess=False,
    autotune_progress_bar=False, autotune_log=sys.argv[2], autotune_config_overrides={"pid_type": "flat"},
    autotune_seed_configs=helion.Config(block_sizes=[64, 64, 32]),
    autotuner_fn=autotuner(
        "random_search", evaluations=6, settings={"verify_rounds": 2}, on_result=found.append, cache=False
    ),
)
torch.testing.assert_close(kernel(a, b).float(), a.float() @ b.float(), atol=5e-2, rtol=5e-2)
(result,) = found
assert result.evaluations == 6, result
assert result.default is not None and result.best.time_ms < result.default.time_ms
print(result.counts)
"""


@pytest.mark.slow
def test_a_kernel_tuned_and_run_by_tritons_interpreter(tmp_path: Path) -> None:
    """The whole way: Helion binds, our search asks, Helion compiles, checks against its baseline, times and runs."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, str(BENCHMARKS), str(tmp_path / "log")],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "timed" in done.stdout
    assert (tmp_path / "log.csv").read_text().count(",ok,") >= 5


def test_the_environment_says_what_neither_the_call_nor_the_kernel_does(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOTUNE_BUDGET_SECONDS", "45.5")
    monkeypatch.setenv("AUTOTUNE_INITIAL_POPULATION", "from_default")
    monkeypatch.setenv("AUTOTUNE_STRATEGY", "pattern_search")
    journal = tmp_path / "journal"
    Run(monkeypatch, bound(kernels, "softmax"), evaluations=30, journal=journal)
    plan = read_journal(journal).header.plan
    assert plan.budget.seconds == 45.5
    assert plan.strategy.settings["initial_population_strategy"] == "from_default"
    monkeypatch.undo()
    monkeypatch.setenv("AUTOTUNE_BUDGET_SECONDS", "45.5")
    kernel = bound(kernels, "softmax", autotune_budget_seconds=47, autotune_initial_population_strategy="from_random")
    Run(monkeypatch, kernel, "pattern_search", evaluations=30, journal=tmp_path / "second")
    plan = read_journal(tmp_path / "second").header.plan
    assert plan.budget.seconds == 47
    assert plan.strategy.settings["initial_population_strategy"] == "from_random"


def test_where_tuning_is_disallowed_there_is_none(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_DISALLOW", "1")
    with pytest.raises(PlanError, match="AUTOTUNE_DISALLOW is set and Helion's cache has no result for softmax"):
        Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=3)


class Kept(BaseAutotuner):  # type: ignore[misc]
    """What stands for Helion's cache, which wants a GPU. asked: what it was told of reading, each time."""

    asked: list[bool]

    def __init__(self, search: Any, autotuner_factory: Callable[[], Any]) -> None:
        assert isinstance(search, autotuner_module.StrategySearch)

    def autotune(self, *, skip_cache: bool = False) -> Any:
        self.asked.append(skip_cache)
        return helion.Config(num_warps=8)


def test_the_cache_is_used_forced_and_skipped_as_the_environment_says(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = bound(kernels, "softmax")
    monkeypatch.setitem(autotuner_module.cache_classes, kernel.settings.autotune_cache, Kept)
    monkeypatch.setattr(type(kernel), "is_cacheable", lambda self: True)
    monkeypatch.setattr(Kept, "asked", asked := [], raising=False)
    autotuner()(kernel, ()).autotune()
    autotuner()(kernel, ()).autotune(skip_cache=True)
    monkeypatch.setenv("AUTOTUNE_FORCE", "1")
    autotuner()(kernel, ()).autotune(skip_cache=False)
    assert asked == [False, True, True]
    assert isinstance(autotuner(cache=False)(kernel, ()), autotuner_module.StrategySearch)
    monkeypatch.setenv("AUTOTUNE_SKIP_CACHE", "1")
    assert isinstance(autotuner()(kernel, ()), autotuner_module.StrategySearch)


@pytest.mark.parametrize("skipped", [False, True])
def test_a_cache_that_is_skipped_gives_no_configs_to_begin_with(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, skipped: bool
) -> None:
    kernel, looked = bound(kernels, "softmax"), []
    monkeypatch.setattr(type(kernel), "is_cacheable", lambda self: True)
    monkeypatch.setattr(
        autotuner_module.StrategySearch, "_find_similar_cached_configs", lambda self, most: looked.append(most) or []
    )
    monkeypatch.setenv("AUTOTUNE_SKIP_CACHE", str(int(skipped)))
    Run(monkeypatch, kernel, "random_search", evaluations=3)
    assert bool(looked) != skipped


def test_progress_is_shown_where_the_environment_or_the_argument_says_so(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    driven = autotuner_module.run_plan

    def watched(plan: Any, evaluator: Any, options: Any) -> Any:
        shown.append(options.progress)
        return driven(plan, evaluator, options)

    monkeypatch.setattr(autotuner_module, "run_plan", watched)
    Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=3)
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "1")
    Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=3)
    Run(monkeypatch, bound(kernels, "softmax"), "random_search", evaluations=3, progress=False)
    assert shown == [False, True, False]
