"""A search whose configs all fail for one reason ends after a few of them."""

import pytest

from autotune import Config, FiniteSearch, Integer, Plan, Settings, Space, Timed, TuningFailed, result
from autotune.core.outcomes import Failed, Outcome, Trial
from autotune.core.search.effort import HOPELESS, MACHINE
from autotune.core.search.hopeless import message_without_values
from autotune.core.search.messages import Conclude
from autotune.studies.simulation import WITHOUT_FINISH
from autotune.testing import HandShell

CONFIGS = tuple(Config({"a": a}) for a in range(40))


def ended(outcome: Outcome | list[Outcome], room: int = 1, hopeless: int = 6, default: bool = True) -> HandShell:
    """A search in which each trial has this outcome, or the outcome of its number, and then the last one."""

    def oracle(trial: Trial, n: int) -> Outcome:
        if isinstance(outcome, list):
            return outcome[min(trial.id, len(outcome) - 1)]
        return (
            Failed(outcome.kind, outcome.message.format(trial.config["a"])) if isinstance(outcome, Failed) else outcome
        )

    space = Space({"a": Integer(0, 39)}, default={"a": 0} if default else None)
    plan = Plan(space, FiniteSearch(configs=CONFIGS), settings=Settings(hopeless=hopeless, rebuild=False))
    shell = HandShell(plan, oracle, room=room)
    shell.run()
    shell.check_past()
    return shell


TYPO = Failed("compile_error", "at {}:12: module 'tl' has no attribute 'laod'")
WRONG = Failed("wrong_answer", "{} of 100 elements are wrong, the largest error is 1.5e-{}")


@pytest.mark.parametrize("room", [1, 4])
@pytest.mark.parametrize("failed", [TYPO, WRONG])
def test_failures_that_are_alike_end_the_search(failed, room):
    failed = Failed(failed.kind, failed.message.replace("{}", "{0}"))
    shell = ended(failed, room)
    assert 6 <= shell.search.observed < 6 + room
    with pytest.raises(TuningFailed, match=rf"the first \d configs fail alike: {failed.kind.replace('_', ' ')}: "):
        result(shell.search)
    assert [event.task.reason for event in shell.events if isinstance(getattr(event, "task", None), Conclude)] == [
        "alike"
    ]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "outcome",
    [
        Timed((1.0,)),
        Failed("out_of_memory", "256 KiB"),
        Failed("crash", "signal 11"),
        Failed("compile_timeout", "60 s"),
        Failed("compile_error"),
        [TYPO, TYPO, TYPO, Failed("run_error", TYPO.message)],
        [TYPO, TYPO, Failed("compile_error", "another")],
        [TYPO] * 4 + [Timed((1.0,)), TYPO],
    ],
)
def test_anything_else_goes_on(outcome):
    assert ended(outcome).search.observed == len(CONFIGS)


def test_without_a_default_it_takes_more_and_without_the_setting_all():
    assert ended(TYPO, default=False).search.observed == 18
    assert ended(TYPO, hopeless=0).search.observed == len(CONFIGS)


def test_efforts_have_the_setting_and_studies_do_not():
    assert [MACHINE[effort].get("hopeless") for effort in ("quick", "full")] == [HOPELESS, HOPELESS]
    assert WITHOUT_FINISH["hopeless"] == 0


def test_values_are_left_out_of_messages():
    config = Config({"mode": "fast", "n": 3})
    assert message_without_values("fast at 3.5e-7 and 0x7f: n=-3, nan, True", config) == "# at # and #: n=#, #, #"
