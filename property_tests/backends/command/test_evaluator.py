"""`CommandEvaluator` keeps the laws of evaluators, with programs that hang, crash, lie, flood and leave children."""

import os
from collections.abc import Mapping

import pytest

from autotune import Choice, CommandEvaluator, Config, Space
from autotune.shell.evaluators.protocol import Evaluator
from autotune.testing import EvaluatorLaws, SessionLaws

PROGRAM = r"""
case "$1" in
  slow) sleep 0.01;;
  hangs) sleep 600;;
  crashes) kill -SEGV $$;;
  killed) kill -KILL $$;;
  exits) echo "no such tile" >&2; exit 3;;
  wrong) echo 41; exit;;
  prints) yes hello | head -c 1000000 >&2;;
  leaves) sleep 600 &;;
esac
echo 42
"""

FAULTS = {
    "breaks": frozenset({"compile_error"}),
    "crashes": frozenset({"crash"}),
    "killed": frozenset({"crash"}),
    "exits": frozenset({"run_error"}),
    "wrong": frozenset({"wrong_answer"}),
}
"""Without the one that hangs, which costs its whole timeout each time: tests/backends/command tries that."""

GOOD = ("quick", "slow", "prints", "leaves")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs are scripts of a POSIX shell")


class TestCommands(SessionLaws):
    def make_evaluator(self) -> Evaluator:
        return CommandEvaluator(
            ["sh", "{program}", "{mode}"],
            ["sh", "-c", f'test "$1" != breaks && printf %s \'{PROGRAM}\' > "$2"', "sh", "{mode}", "{program}"],
            reference="42",
            workers=2,
            repeats=2,
            run_timeout_s=20.0,
        )

    def make_space(self) -> Space:
        return Space({"mode": Choice([*GOOD, *FAULTS])}, default={"mode": "slow"})

    def make_faults(self) -> Mapping[Config, frozenset[str]]:
        return {Config({"mode": mode}): kinds for mode, kinds in FAULTS.items()}


@pytest.mark.slow
class TestJournalsOfCommands(TestCommands, EvaluatorLaws):
    evaluations = 3
