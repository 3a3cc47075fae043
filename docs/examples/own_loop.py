"""Own the loop: the search as a pure function, for those whose configs are measured by machinery of their own.

`request` says what is wanted, `advance` gives the search that knows one event more. Neither has side effects: a search
is a value that can be kept, copied, or folded again from its events. `python docs/examples/own_loop.py`
"""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from time import monotonic, sleep

import autotune as at

SLOTS = 4  # how many configs we can measure at the same time

space = at.Space(
    {"tile": at.PowerOfTwo(8, 256, role="block_size"), "stages": at.Integer(1, 6), "swizzle": at.Boolean()},
    ["tile * stages <= 512"],
    default={"tile": 32, "stages": 1, "swizzle": False},
)


def measure(config: at.Config, samples: int) -> at.Outcome:
    """Stands for a cluster, a simulator, a phone on a desk. Says how long each run took, or why there was none."""
    sleep(0.002)
    tile, stages = config["tile"], config["stages"]
    if tile == 256 and config["swizzle"]:
        return at.Failed("compile_error", "too many registers")
    time_ms = 1 + abs(tile - 64) / 64 + abs(stages - 4) / 4 - 0.2 * config["swizzle"]
    return at.Timed(times_ms=tuple(time_ms * (1 + 0.01 * (i % 3)) for i in range(samples)))


def compare(task: at.Compare) -> tuple[tuple[int, at.Outcome], ...]:
    """One sample of each config in every round, in the order that is said for the round: whatever changes meanwhile
    falls on all alike."""
    outcomes: dict[int, list[at.Outcome]] = {trial.id: [] for trial in task.trials}
    for number in range(task.rounds):
        for i in at.order_of_round(task, number):
            outcomes[task.trials[i].id].append(measure(task.trials[i].config, 1))
    return tuple((trial, together(found)) for trial, found in outcomes.items())


def together(outcomes: list[at.Outcome]) -> at.Outcome:
    """The samples of all rounds, or the failure that one of them was."""
    failed = next((outcome for outcome in outcomes if isinstance(outcome, at.Failed)), None)
    return failed or at.Timed(times_ms=tuple(ms for o in outcomes if isinstance(o, at.Timed) for ms in o.times_ms))


def run(plan: at.Plan) -> tuple[at.Search, list[at.Event]]:
    """The loop. The events are all there is to know: folding them with `advance` gives the same search again."""
    events: list[at.Event] = []
    search, began = at.start(plan), monotonic()  # all times are seconds since the search began
    running: dict[Future[at.Outcome], int] = {}

    def tell(event: at.Event) -> None:
        nonlocal search
        events.append(event)
        search = at.advance(search, event)

    with ThreadPoolExecutor(SLOTS) as pool:
        while True:
            room = SLOTS - len(running)
            task = at.request(search, room)
            if isinstance(task, at.Finished):
                return search, events
            if not isinstance(task, at.Wait):  # what is asked is an event too
                tell(at.Asked(monotonic() - began, room, task))
            match task:
                case at.Measure(trials=trials):
                    running |= {pool.submit(measure, trial.config, 5): trial.id for trial in trials}
                case at.Compare():  # side by side again: the near-best, the finalists
                    tell(at.Compared(monotonic() - began, compare(task)))
                case at.Conclude():  # the strategy is through: what still runs will not be waited for
                    running.clear()
                case at.Wait(until=until):  # tell outcomes as they come, in any order, or that the time has come
                    left = None if until is None else max(until - (monotonic() - began), 0)
                    finished = wait(running, left, FIRST_COMPLETED).done
                    for done in finished:
                        tell(at.Observed(monotonic() - began, running.pop(done), done.result()))
                    if not finished:
                        tell(at.Ticked(monotonic() - began))


if __name__ == "__main__":
    plan = at.make_plan(space, "pattern_search", budget=at.Budget(evaluations=40), seed=1)
    search, events = run(plan)
    found = at.result(search)
    print(f"best {found.best.config}: {found.best.time_ms:.3f} ms, {found.speedup.value:.2f}x the default's speed")
    print(f"{found.evaluations} configs ({found.counts}), {len(events)} events; stopped: {found.detail}")
