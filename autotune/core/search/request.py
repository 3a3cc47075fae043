"""The next request of a search: a pure function of the search and of the room that the shell has."""

import numpy as np
from numpy.typing import NDArray

from autotune.core.arguments import check_integer, check_kind, plain, short_repr
from autotune.core.errors import PlanError, StrategyError
from autotune.core.keys import fold
from autotune.core.one_thread import one_thread
from autotune.core.outcomes import Trial
from autotune.core.parameters import Codes
from autotune.core.points import first_of_each
from autotune.core.search.finish import request_finish
from autotune.core.search.hopeless import believe_hopeless
from autotune.core.search.limits import limits_for, remaining_evaluations, search_deadline
from autotune.core.search.messages import Compare, Conclude, Measure, Reason, Request, Wait
from autotune.core.search.rounds import request_comparison
from autotune.core.search.state import OTHER, STRATEGY, Search, restart_strategy
from autotune.core.search.stopping import believe_done
from autotune.core.space import Space
from autotune.core.strategies import protocol

NO_CODE = -1
"""The code that replaces a number that is no integer: no parameter has it."""


def request(search: Search, room: int = 1) -> Request:
    """The shell's next task, where it has room for `room` more trials. A query: asking twice gives the same answer.

    Record Measure, Compare and Conclude with an `Asked` event before the next request. After Wait an outcome must
    arrive first, or the clock reach `until`. Finished is final. Raises PlanError for arguments of another kind and
    StrategyError for an answer of the strategy that breaks its protocol.
    """
    check_kind(search, Search, "search", "a search, as start gives it", PlanError)
    room = check_integer(room, "room", PlanError)
    if search.interrupted or search.concluded is not None:
        return request_finish(search)
    ends = search_deadline(search)
    if ends is not None and search.clock >= ends:
        return Conclude("seconds", f"{search.plan.budget.seconds:g} s are over, less the time kept for verification")
    if search.comparing is not None:
        return Wait(ends)
    if (why := believe_done(search)) is not None:
        return Conclude("regret", why)
    if (why := believe_hopeless(search)) is not None:
        return Conclude("alike", why)
    if room <= 0 and search.outstanding:
        return Wait(ends)
    default = search.plan.space.default
    if not len(search.trials) and default is not None:
        return Measure((Trial(0, default, "default", generation=OTHER),), limits_for(search))
    if not search.plan.settings.search:
        return _request_conclusion(search, "effort", "only the default config was asked for")
    left = remaining_evaluations(search)
    if left is not None and left <= 0:
        return _request_conclusion(
            search, "evaluations", f"the budget of {search.plan.budget.evaluations} evaluations is spent"
        )
    if room <= 0:
        return Wait(ends)
    if not search.outstanding and (contested := request_confirmation(search)) is not None:
        return contested
    return _request_trials(search, room, left)


def _request_conclusion(search: Search, reason: Reason, detail: str) -> Request:
    """Conclude once nothing is outstanding, after a last confirmation where no qualification will follow."""
    if search.outstanding:
        return Wait(search_deadline(search))
    verifying = search.plan.settings.verify_rounds > 0
    return (None if verifying else request_confirmation(search)) or Conclude(reason, detail)


def _request_trials(search: Search, room: int, left: int | None) -> Request:
    """The strategy's answer as a request."""
    answer = _ask_strategy(search, room, left)
    if isinstance(answer, protocol.Done):
        return _request_restart(search, room, left) or _request_conclusion(search, "strategy", answer.why)
    if isinstance(answer, protocol.AwaitOutcome):
        if search.outstanding:
            return Wait(search_deadline(search))
        return _request_conclusion(search, "strategy", "the strategy waits although nothing is outstanding")
    return _measure_proposals(search, answer, left)


def _request_restart(search: Search, room: int, left: int | None) -> Request | None:
    """The first batch of a strategy that starts again after its end; None where it may not, or proposes nothing."""
    if search.strategy_start.restarts >= search.plan.settings.restarts:
        return None
    if search.outstanding:
        return Wait(search_deadline(search))
    anew = restart_strategy(search)
    answer = _ask_strategy(anew, room, left)
    return _measure_proposals(anew, answer, left) if isinstance(answer, protocol.Proposals) else None


def _ask_strategy(
    search: Search, room: int, left: int | None
) -> protocol.Proposals | protocol.AwaitOutcome | protocol.Done:
    """The strategy's answer to the current question."""
    plan, begun, archive = search.plan, search.strategy_start, search.archive
    generations = plan.budget.generations
    ask = protocol.Ask(
        room=room,
        proposed=search.proposed,
        outstanding=search.outstanding,
        evaluations=left,
        seconds=None if plan.budget.seconds is None else plan.budget.seconds - search.clock,
        generations=None if generations is None else generations - 1 - max(search.generation, OTHER),
        archive=archive.since(begun.trial, begun.generation) if begun.restarts else archive,
        fresh=search.points.unseen,
        find_pending=lambda: search.points.rows[[trial.id for trial in search.pending]],
    )
    with one_thread():
        answer = plan.strategy.propose(plan.space, search.state, ask, fold(search.key, "propose", search.asks))
    if not isinstance(answer, protocol.Proposals | protocol.AwaitOutcome | protocol.Done):
        raise StrategyError(
            f"{type(plan.strategy).__name__}.propose gave {short_repr(answer)}; "
            "it gives Proposals, AwaitOutcome or Done"
        )
    return answer


def _measure_proposals(search: Search, answer: protocol.Proposals, left: int | None) -> Request:
    """The proposals that are valid and new, as trials, no more than the budget allows."""
    begun, generations = search.strategy_start, search.plan.budget.generations
    points, walks = _check_proposals(answer, search.plan.space)
    generation = begun.generation + int(answer.generation)
    if generations is not None and generation >= generations:
        return _request_conclusion(search, "generations", f"{generations} generations were evaluated")
    keep = np.flatnonzero(search.plan.space.contains(points))
    keep = keep[first_of_each(points[keep])]
    keep = keep[search.points.unseen(points[keep])]
    keep = keep[search.plan.space.valid(points[keep])]
    rejected = len(points) - len(keep)
    keep = keep[:left]
    if not len(keep):
        return _request_conclusion(search, "exhausted", "the strategy found no config that was not tried before")
    first = len(search.trials)
    configs = search.plan.space.decode(points[keep])
    trials = tuple(
        Trial(first + i, config, STRATEGY, walk, generation)
        for i, (config, walk) in enumerate(zip(configs, walks[keep].tolist(), strict=True))
    )
    restart = begun.restarts if first == begun.trial else 0
    return Measure(trials, limits_for(search, generation), rejected, answer.why, restart)


def _check_proposals(answer: protocol.Proposals, space: Space) -> tuple[Codes, NDArray[np.int64]]:
    """A strategy's proposals as points [n, columns] and walks [n]; a number that is no integer becomes NO_CODE.

    Raises StrategyError for arrays of other shapes or types.
    """
    points = np.asarray(answer.points)
    if points.ndim != 2 or points.shape[1] != space.columns or points.dtype.kind not in "biuf":
        shape = f"{points.dtype} of the shape {list(points.shape)}"
        raise StrategyError(f"a strategy proposed points as {shape}; they are integers [n, {space.columns}]")
    if points.dtype.kind != "i":
        whole = np.isfinite(points) & (np.abs(points) < 2.0**62) & (points == np.floor(points))
        points = np.where(whole, points, NO_CODE)
    walks, generation = np.asarray(answer.walk), plain(answer.generation)
    if walks.shape != (len(points),) or walks.dtype.kind not in "iu":
        given = f"{walks.dtype} of the shape {list(walks.shape)}"
        raise StrategyError(f"a strategy proposed {len(points)} points with walks as {given}; give an integer for each")
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise StrategyError(f"a strategy proposed points of the generation {short_repr(generation)}; give an integer")
    return points.astype(np.int64), walks.astype(np.int64)


def request_confirmation(search: Search) -> Compare | None:
    """The near-best configs that noise leaves undecided, to be timed again side by side; None when there are none.

    Only trials whose interval reaches the best one's are undecided, and only those asked about less than
    `confirm_times` times: the best is compared with at most `confirm_at_most - 1` others at once.
    """
    settings = search.plan.settings
    if settings.exact or settings.rebenchmark_threshold < 1 or not search.contested or not settings.confirm_times:
        return None
    archive = search.archive
    ranking = archive.ranking()
    if len(ranking) < 2:
        return None
    near = archive.latest[ranking]
    undecided = (near["low_ms"] <= near["high_ms"][0]) & (
        near["time_ms"] <= float(near["time_ms"][0]) * settings.rebenchmark_threshold
    )
    times = np.bincount(search.records.array["trial"])[near["trial"]] - 1
    challengers = ranking[1:][(undecided & (times < settings.confirm_times))[1:]][: settings.confirm_at_most - 1]
    if not len(challengers):
        return None
    compared = archive.trials[[ranking[0], *challengers]].tolist()
    return request_comparison(search, compared, settings.confirm_rounds, "confirm", search_deadline(search))
