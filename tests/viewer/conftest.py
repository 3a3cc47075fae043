"""A journal whose names, values and messages try to be markup, and one of a plain search with noise."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from autotune import Budget, Choice, Config, Failed, PowerOfTwo, SimulatedEvaluator, Space, Timed, tune
from autotune.core.outcomes import Outcome
from autotune.shell.journal import Journal, read_journal

NASTY_NAME = "<img src=x onerror=document.title='name'>"
NASTY_VALUES = ("</script><script>document.title='value'</script>", "{b|x} & \u2028 \u202e", "plain")
NASTY_MESSAGE = "<b>bold</b> </script><!-- <script> document.title='message' \u2028 & \"quoted\""


class Table:
    """Times that depend on BLOCK alone; num_warps = 8 fails."""

    def outcome(self, config: Config) -> Outcome:
        if config["num_warps"] == 8:
            return Failed("compile_error", NASTY_MESSAGE, compile_s=0.2)
        return Timed((1.0 + abs(float(np.log2(int(str(config["BLOCK"])))) - 5),), compile_s=0.5, run_s=0.1)

    def samples(self, config: Config) -> np.ndarray:
        outcome = self.outcome(config)
        return np.array([] if isinstance(outcome, Failed) else [outcome.time_ms * (1 + i / 100) for i in range(-2, 3)])


SPACE = Space(
    {"BLOCK": PowerOfTwo(1, 256), "num_warps": PowerOfTwo(1, 8), NASTY_NAME: Choice(NASTY_VALUES)},
    default={"BLOCK": 1, "num_warps": 1, NASTY_NAME: "plain"},
)


def make_journal(path: Path, seed: int = 0) -> Path:
    evaluator = SimulatedEvaluator(Table(), compile_workers=3, noise="resample")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tune(SPACE, evaluator, "random_search", budget=Budget(evaluations=60), seed=seed, journal=path, progress=False)
    return path


@pytest.fixture(scope="package")
def journal_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_journal(tmp_path_factory.mktemp("viewer") / "a search.journal.jsonl")


@pytest.fixture(scope="package")
def journal(journal_path: Path) -> Journal:
    return read_journal(journal_path)
