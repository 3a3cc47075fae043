"""The examples run as they stand, and the kernel of the README is right wherever it may be sent."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest

from autotune import Budget, CallableEvaluator, Config, Limits, Observed, Problem, Session, Timed, Trial, tune
from autotune.core.keys import root
from tests.support import DOCS, load_module

EXAMPLES = DOCS / "examples"


def run_script(name: str) -> str:
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_tour_runs_and_replays_what_it_did() -> None:
    output = run_script("quick_tour.py")
    assert "44 valid" in output
    assert re.search(r"\{'timed': 2[2-5]\}", output)  # of a budget of 25, two are kept for simplification
    assert "divergence: None" in output


def test_own_loop_finds_the_best_of_its_made_up_space() -> None:
    output = run_script("own_loop.py")
    assert "best tile=64, stages=4, swizzle=True" in output


def test_the_page_of_flags_shows_the_example_as_it_is() -> None:
    shown = re.findall(r"```python\n(.*?)```", (DOCS / "howto" / "program_flags.md").read_text(), re.DOTALL)[0]
    assert (EXAMPLES / "compiler_flags.py").read_text().endswith(shown)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_flags_of_the_example_fit_its_program() -> None:
    """The default and a config with every flag give the reference's output."""
    problem = load_module(EXAMPLES / "compiler_flags.py").problem
    fastest = {"level": "3", "native": True, "fast_math": True, "unroll": True, "tile": 2048}
    trials = [Trial(i, Config(config)) for i, config in enumerate((problem.space.default, fastest))]
    with problem.evaluator.open(problem.space) as session:
        session.submit(trials, Limits())
        found = [event for _ in trials for event in wait_for(session)]
    assert [type(event.outcome) for event in found] == [Timed, Timed], found


def wait_for(session: Session) -> Sequence[Observed]:
    """The next outcomes of a session; none once it is idle."""
    while not session.idle:
        if news := session.poll(1.0):
            return [event for event in news if isinstance(event, Observed)]
    return []


@pytest.fixture(scope="module")
def matmul() -> ModuleType:
    pytest.importorskip("numba")
    return load_module(EXAMPLES / "blocked_matmul.py")


@pytest.fixture(scope="module")
def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Of three different lengths, each a multiple of every block size, so that no two axes can be mixed up."""
    rng = np.random.default_rng(1)
    return rng.random((256, 512), dtype=np.float32), rng.random((512, 1024), dtype=np.float32)


def test_matmul_is_a_problem_worth_tuning(matmul: ModuleType) -> None:
    problem = matmul.problem
    assert isinstance(problem, Problem)
    assert len(problem.space.names) >= 5
    assert problem.space.count() >= 10_000
    assert problem.space.default is not None


def test_matmul_reference_is_the_product_by_its_definition(matmul: ModuleType) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((5, 7), dtype=np.float32), rng.random((7, 3), dtype=np.float32)
    assert np.array_equal(matmul.reference(a, b), (a[:, :, None] + b).min(axis=1))


@pytest.mark.slow
def test_matmul_kernel_is_right_to_the_last_bit(matmul: ModuleType, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    space, expected = matmul.space, matmul.reference(*inputs)
    corners = [
        # packed and shared out among cores, everything unrolled, every axis outermost once
        {"order": (1, 2, 0), "unroll_i": 8, "unroll_k": 2, "pack_b": True},
        {"order": (2, 1, 0), "unroll_i": 2, "unroll_k": 8, "parallel": False, "block_j": 512},
    ]
    configs = [space.default, *map(space.complete, corners), *space.decode(space.sample(root(0), 3))]
    for config in configs:
        assert np.array_equal(matmul.build(config)(*inputs), expected), config


def test_matmul_travels_to_worker_processes(matmul: ModuleType, inputs: tuple[np.ndarray, np.ndarray]) -> None:
    """The file is no importable module there, as under `autotune tune FILE`: its functions go with their code."""
    evaluator = CallableEvaluator(
        matmul.build, args=inputs, reference=matmul.reference, rtol=0, atol=0, target_ms=20, max_repeats=3
    )
    quick = {"verify_rounds": 0, "confirm_times": 0, "simplify_rounds": 0}
    result = tune(matmul.space, evaluator, "random_search", budget=Budget(evaluations=2), settings=quick)
    assert result.counts == {"timed": 2}
    assert result.default is not None
    assert isinstance(result.best.config, Config)
