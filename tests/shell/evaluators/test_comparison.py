"""One comparison, step by step: whose turn it is, what failures do, and what comes out."""

from autotune import Config, Failed, Timed
from autotune.core.outcomes import Trial
from autotune.core.search.messages import Compare
from autotune.core.search.rounds import order_of_round
from autotune.shell.evaluators.comparison import Comparison, Contender, Step, take_turns

ROUNDS = 4


def task(count: int, order: int | None = 3) -> Compare:
    return Compare(tuple(Trial(i, Config(n=i)) for i in range(count)), ROUNDS, "verify", order=order)


def comparison(asked: Compare) -> Comparison[Contender]:
    return Comparison.of(asked, [Contender(place=place) for place in range(len(asked.trials))], lambda: 0.0)


def test_each_is_built_and_prepared_then_sampled_in_the_order_of_the_round_then_verified() -> None:
    asked, done = task(3), list[tuple[int, Step]]()

    def act(contender: Contender, step: Step) -> float | None:
        done.append((contender.place, step))
        return contender.place + 1.0 if step == "sample" else None

    outcomes = take_turns(comparison(asked), act)
    first = order_of_round(asked, 0)
    assert done[:6] == [(place, step) for place in first for step in ("build", "prepare")]
    samples = [place for place, step in done if step == "sample"]
    assert samples == [place for number in range(ROUNDS) for place in order_of_round(asked, number)]
    assert done[-3:] == [(place, "verify") for place in range(3)]
    assert [one.times_ms for one in outcomes if isinstance(one, Timed)] == [(i + 1.0,) * ROUNDS for i in range(3)]


def test_a_contender_that_fails_drops_out_and_the_others_go_on() -> None:
    broken: dict[int, Step] = {0: "build", 1: "prepare", 2: "sample", 3: "verify"}

    def act(contender: Contender, step: Step) -> float | Failed | None:
        if broken.get(contender.place) == step:
            return Failed("run_error", step)
        return 1.0 if step == "sample" else None

    outcomes = take_turns(comparison(task(5)), act)
    assert [one.message for one in outcomes if isinstance(one, Failed)] == list(broken.values())
    (good,) = (one for one in outcomes if isinstance(one, Timed))
    assert len(good.times_ms) == ROUNDS


def test_nothing_is_left_to_do_where_all_fail() -> None:
    outcomes = take_turns(comparison(task(2)), lambda contender, step: Failed("run_error", step))
    assert [one.message for one in outcomes if isinstance(one, Failed)] == ["build", "build"]
