"""A simulated device: recorded outcomes on a virtual clock, with compile workers that feed devices. Pure.

Everything is a function of the trials and the times at which they were submitted, so a search can be repeated, cut and
resumed exactly. A `Disturbance` adds noise, outliers, drift, carry-over and differences between processes to the
recorded times, as a function of the seed, the config and the virtual clock, so that claims about noisy searches can be
held against the truth.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from math import exp, floor, sqrt
from typing import Protocol

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from autotune.core.arguments import Nonnegative, Positive, Proportion, check_settings
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.keys import Key, fold, integers, root, uniform
from autotune.core.outcomes import Detail, Failed, Outcome, Timed, Trial
from autotune.core.search.messages import (
    Asked,
    Compare,
    Compared,
    Event,
    Limits,
    Measure,
    Observed,
    Ticked,
    without_interrupted_tail,
)
from autotune.core.search.rounds import order_of_round
from autotune.core.space import Space
from autotune.shell.evaluators.protocol import Session, gives_up

_Floats = NDArray[np.float64]

_CUT_AFTER = 3
"""A noisy config is cut off if its first samples, this many, are all slower than the cut-off: as in `timing`."""

_WALK_S, _FINEST_S = 2.0**20, 2.0**-7
"""The random walk is drawn for twelve days, after which it starts again, and is straight within 8 ms."""

_FARTHEST = 20.0
"""The largest logarithm of a factor: heavy tails have no bound, and a time must be finite."""


class Disturbance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Disturbances of a simulated device. All sizes are relative: 0.01 is 1 % of a time, 0 is none.

    jitter: the standard deviation of the logarithm of a sample; half of the samples are below the true time.
    tails: degrees of freedom of Student's t, from which the jitter is drawn (3 has heavy tails); None: normal.
    outliers, outlier_size: the share of samples that take longer by so much.
    walk: the standard deviation of the change of the device's speed after one second, as a random walk.
    trend, trend_s: the clock falls by so much, evenly over the first so many seconds, and stays there.
    carry_over: in a comparison, a config that does not run first in its round takes longer by so much.
    neighbour: in a comparison, the standard deviation of the logarithm of a factor that belongs to two configs: one
    that runs, and the one that ran before it in its round, as by what is left in a cache.
    alone: the standard deviation of the logarithm of a factor that all samples of one measurement in the search share,
    as by the clock of that moment. Of many equal configs, the luckiest then leads (winner's curse).
    process: the standard deviation of the logarithm of a factor that belongs to a config in one process, as by where
    its memory lies; a process cannot tell it from the config. See `SimulatedEvaluator.processes`.
    """

    jitter: Nonnegative = 0.0
    tails: Positive | None = None
    outliers: Proportion = 0.0
    outlier_size: Nonnegative = 0.0
    walk: Nonnegative = 0.0
    trend: Proportion = 0.0
    trend_s: Positive = 60.0
    carry_over: Nonnegative = 0.0
    neighbour: Nonnegative = 0.0
    alone: Nonnegative = 0.0
    process: Nonnegative = 0.0

    def __post_init__(self) -> None:
        check_settings(self, "the disturbance", EvaluatorError, convert=False)

    @property
    def none(self) -> bool:
        """Whether there is no disturbance, so that times are exact."""
        lasting = (self.walk, self.trend, self.carry_over, self.neighbour, self.alone, self.process)
        return not (self.jitter or (self.outliers and self.outlier_size) or any(lasting))


class DisturbedDevice:
    """A device with a disturbance. key: of its seed."""

    def __init__(self, disturbance: Disturbance, key: Key) -> None:
        self._of = disturbance
        self._node: Callable[[int, int], float] = cache(
            lambda level, i: float(_normal(fold(key, "walk", level, i), 1)[0])
        )

    def drift(self, at: float) -> float:
        """The factor of every time at this second of the virtual clock."""
        of = self._of
        slower = 1 / max(1 - of.trend * min(at / of.trend_s, 1.0), 1e-3) if of.trend else 1.0
        return slower * exp(of.walk * self._walk(at)) if of.walk else slower

    def noise(self, key: Key, n: int) -> _Floats:
        """The factors [n] of n samples. key: of the config and the time."""
        of = self._of
        logs = of.jitter * _normal(fold(key, "jitter"), n, of.tails) if of.jitter else np.zeros(n)
        factors: _Floats = np.exp(np.clip(logs, -_FARTHEST, _FARTHEST))
        if of.outliers and of.outlier_size:
            factors *= 1 + of.outlier_size * (uniform(fold(key, "outliers"), n) < of.outliers)
        return factors

    def after(self, before: Key | None, own: Key) -> float:
        """The factor of a config that runs after another one of its round, or first (None). before, own: their keys."""
        if before is None:
            return 1.0
        of = self._of
        return (1 + of.carry_over) * self._lasting(of.neighbour, fold(own, "neighbour", before))

    def alone(self, key: Key) -> float:
        """The factor of one measurement in the search. key: of the config and the time."""
        return self._lasting(self._of.alone, fold(key, "alone"))

    def process(self, key: Key) -> float:
        """The factor of a config in a process. key: of both."""
        return self._lasting(self._of.process, fold(key, "process"))

    def _lasting(self, size: float, key: Key) -> float:
        """A factor that the samples with this key share; its logarithm has the standard deviation `size`."""
        return exp(min(max(size * float(_normal(key, 1)[0]), -_FARTHEST), _FARTHEST)) if size else 1.0

    def _walk(self, at: float) -> float:
        """Brownian motion at one time, by bisection: the middle of an interval is drawn given its two ends.

        Lévy, "Processus stochastiques et mouvement brownien" (1948).
        """
        length, place = _WALK_S, at % _WALK_S
        begin, end, i, level = 0.0, sqrt(length) * self._node(0, 0), 0, 1
        while length > _FINEST_S:
            half = (begin + end) / 2 + sqrt(length) / 2 * self._node(level, i)
            length /= 2
            i = floor(place / length)
            begin, end = (half, end) if i % 2 else (begin, half)
            level += 1
        return begin + (end - begin) * (place / length - i)


def _normal(key: Key, n: int, tails: float | None = None) -> _Floats:
    """n normal numbers, or n numbers of Student's t with `tails` degrees of freedom.

    Box and Muller (1958); Bailey, "Polar generation of random variates with the t-distribution" (1994).
    """
    first, second = uniform(key, 2, n)
    first = 1 - first  # above 0
    radius = -2 * np.log(first) if tails is None else tails * (first ** (-2 / tails) - 1)
    drawn: _Floats = np.sqrt(radius) * np.cos(2 * np.pi * second)
    return drawn


_UNDISTURBED = Disturbance()


def _set_fields(disturbance: Disturbance) -> dict[str, Detail]:
    """The fields of a disturbance that differ from their defaults, by name."""
    return {name: value for name, value in structs.asdict(disturbance).items() if value != getattr(_UNDISTURBED, name)}


class Noise(StrEnum):
    """The noise of a simulated evaluator: none, or samples drawn again for each measurement."""

    OFF = "off"
    RESAMPLE = "resample"


class Table(Protocol):
    """A recording: the outcome and the repeats of each config."""

    def outcome(self, config: Config) -> Outcome:
        """The outcome without noise; Failed("unknown") for a config that was not recorded, never an estimate."""

    def samples(self, config: Config) -> NDArray[np.float64]:
        """The recorded repeats [n] in milliseconds, for resampling; empty if none were kept."""


@dataclass(frozen=True)
class SimulatedEvaluator:
    """Looks configs up in a recording instead of running them.

    table: the recording. compile_workers, devices: how many configs compile, and how many run, at the same time.
    noise: "off" (every config has its one recorded time) or "resample" (`repeats` of its recorded samples, drawn for
    each measurement by `seed`). disturbance: by `seed`, on top of that; without one, times are exact if noise is "off".
    batch: take this many trials at a time, and no more before all are done; None: keep every worker busy.
    processes: the rounds of a comparison are spread evenly over so many processes; a measurement in the search, and a
    comparison with fewer rounds, has fewer.
    """

    table: Table
    compile_workers: int = 1
    devices: int = 1
    noise: Noise | str = Noise.OFF
    repeats: int = 7
    seed: int = 0
    batch: int | None = None
    disturbance: Disturbance = _UNDISTURBED
    processes: int = 1

    def __post_init__(self) -> None:
        for name in (
            "compile_workers",
            "devices",
            "repeats",
            "processes",
            *(("batch",) if self.batch is not None else ()),
        ):
            if getattr(self, name) < 1:
                raise EvaluatorError(f"the simulated evaluator has {name} = {getattr(self, name)}; use at least 1")
        if self.noise not in tuple(Noise):
            raise EvaluatorError(f"the simulated evaluator has noise = {self.noise!r}; use 'off' or 'resample'")

    @property
    def exact(self) -> bool:
        return self.noise == Noise.OFF and self.disturbance.none

    @property
    def recovers(self) -> bool:
        return True

    def describe(self) -> dict[str, Detail]:
        return {
            "kind": "simulated",
            "compile_workers": self.compile_workers,
            "devices": self.devices,
            "noise": str(self.noise),
            "repeats": self.repeats,
            "seed": self.seed,
            "batch": self.batch or 0,
            **({"processes": self.processes} if self.processes > 1 else {}),
            **_set_fields(self.disturbance),
        }

    def true_ms(self, config: Config, at: float) -> float | None:
        """The median time in milliseconds that the config would have, timed for ever in the state of the device at this
        second of the virtual clock, without outliers; None: it fails."""
        outcome = self.table.outcome(config)
        if isinstance(outcome, Failed):
            return None
        samples = self.table.samples(config) if self.noise == Noise.RESAMPLE else np.empty(0)
        time_ms = float(np.median(samples)) if len(samples) else outcome.time_ms
        return time_ms * DisturbedDevice(self.disturbance, root(self.seed)).drift(at)

    def open(self, space: Space, past: Sequence[Event] = ()) -> "SimulatedSession":
        session = SimulatedSession(self)
        for event in without_interrupted_tail(past):
            session.replay(event)
        return session


@dataclass(frozen=True)
class _Job:
    trial: Trial
    limits: Limits
    outcome: Outcome | None = None


class SimulatedSession(Session):
    """A queue for compile workers, a queue for devices, and a heap of the ends of their work."""

    def __init__(self, evaluator: SimulatedEvaluator) -> None:
        self._evaluator = evaluator
        self._key: Key = root(evaluator.seed)
        self._device = DisturbedDevice(evaluator.disturbance, self._key)
        self._clock = 0.0
        self.abandon()

    def abandon(self) -> None:
        self._waiting: deque[_Job] = deque()
        self._built: deque[_Job] = deque()
        self._ends: list[tuple[float, int, str, _Job]] = []
        self._comparison: tuple[float, Compare] | None = None
        self._compiling = self._running = 0

    @property
    def _in_flight(self) -> int:
        return len(self._waiting) + self._compiling + len(self._built) + self._running

    @property
    def room(self) -> int:
        evaluator = self._evaluator
        if evaluator.batch is not None:
            return 0 if self._in_flight else evaluator.batch
        return max(evaluator.compile_workers + evaluator.devices - 1 - self._in_flight, 0)

    @property
    def idle(self) -> bool:
        return not self._in_flight and self._comparison is None

    def now(self) -> float:
        return self._clock

    def submit(self, trials: Sequence[Trial], limits: Limits) -> None:
        self._waiting.extend(_Job(trial, limits) for trial in trials)
        self._fill()

    def compare(self, task: Compare) -> None:
        if self._in_flight:
            raise EvaluatorError("a comparison was asked for while trials are in flight; wait for them first")
        building = sum(self._lookup(trial).compile_s for trial in task.trials)
        one_round = sum(self._time_ms(trial) for trial in task.trials) / 1000
        rounds = task.rounds
        if task.until is not None and one_round > 0:
            rounds = max(min(rounds, int((task.until - self._clock - building) / one_round)), 1)
        self._comparison = (self._clock + building + rounds * one_round, structs.replace(task, rounds=rounds))

    def poll(self, timeout_s: float | None = None) -> Sequence[Observed | Compared]:
        until = None if timeout_s is None else self._clock + timeout_s
        while True:
            ends = self._comparison[0] if self._comparison else self._ends[0][0] if self._ends else None
            if ends is None or (until is not None and ends > until):
                self._clock = self._clock if until is None else until
                return ()
            self._clock = ends
            done = self._finish_comparison() if self._comparison else self._end_next()
            if done is not None:
                return (done,)

    def replay(self, event: Event) -> None:
        """Bring the session into the state after an event of a journal, whose results are known."""
        if isinstance(event, Asked) and gives_up(event.task):
            self.abandon()
        match event:
            case Asked(task=Measure(trials=trials, limits=limits)):
                self.submit(trials, limits)
            case Asked(task=Compare() as task):
                self.compare(task)
            case Observed() | Compared():
                again = self.poll()
                if not again or again[0] != event:
                    raise EvaluatorError(
                        f"the simulation does not repeat what the journal recorded at {event.at:g} s; "
                        "use the recording and the settings it was made with"
                    )
            case Ticked(at=at):
                self.poll(at - self._clock)
            case _:
                pass

    def _lookup(self, trial: Trial) -> Outcome:
        return self._evaluator.table.outcome(trial.config)

    def _time_ms(self, trial: Trial) -> float:
        outcome = self._lookup(trial)
        return outcome.time_ms if isinstance(outcome, Timed) else 0.0

    def _fill(self) -> None:
        """Start all builds and runs that can start now."""
        while self._waiting and self._compiling < self._evaluator.compile_workers:
            job = self._waiting.popleft()
            outcome, limit = self._lookup(job.trial), job.limits.compile_timeout_s
            seconds = outcome.compile_s
            if limit is not None and seconds > limit:
                seconds = limit
                outcome = Failed("compile_timeout", f"not built after {limit:g} s", compile_s=limit)
            self._compiling += 1
            self._push(seconds, "build", replace(job, outcome=outcome))
        while self._built and self._running < self._evaluator.devices:
            job = self._built.popleft()
            measured = self._measure(job)
            self._running += 1
            self._push(measured.run_s, "run", replace(job, outcome=measured))

    def _push(self, seconds: float, stage: str, job: _Job) -> None:
        heapq.heappush(self._ends, (self._clock + seconds, job.trial.id, stage, job))

    def _end_next(self) -> Observed | None:
        _, trial, stage, job = heapq.heappop(self._ends)
        assert job.outcome is not None
        if stage == "build":
            self._compiling -= 1
            unbuilt = isinstance(job.outcome, Failed) and job.outcome.kind in ("compile_error", "compile_timeout")
            if not unbuilt:
                self._built.append(job)
            self._fill()
            return Observed(self._clock, trial, job.outcome) if unbuilt else None
        self._running -= 1
        self._fill()
        return Observed(self._clock, trial, job.outcome)

    def _measure(self, job: _Job) -> Outcome:
        """The outcome of a job that a device starts now."""
        outcome, cutoff = job.outcome, job.limits.cutoff_ms
        assert outcome is not None
        if isinstance(outcome, Failed) or self._evaluator.exact:
            return outcome
        key = fold(self._key, job.trial.config.digest)
        times = self._draw(job.trial, self._evaluator.repeats, key)
        if not self._evaluator.disturbance.none:
            own = fold(key, self._clock.hex())
            shared = self._device.alone(own) * self._device.process(own)
            times = self._disturb(times, own, self._clock + np.cumsum((0.0, *times[:-1])) / 1000, np.float64(shared))
        if cutoff is not None and len(times) > _CUT_AFTER and min(times[:_CUT_AFTER]) > cutoff:
            kept = times[:_CUT_AFTER]
            return Timed(kept, outcome.compile_s, outcome.run_s * _CUT_AFTER / len(times), cut=True)
        return Timed(times, outcome.compile_s, outcome.run_s)

    def _draw(self, trial: Trial, n: int, key: Key) -> tuple[float, ...]:
        """n of the recorded repeats, drawn by the key and the virtual clock."""
        samples = self._evaluator.table.samples(trial.config)
        if not len(samples):
            return (self._time_ms(trial),) * n
        return tuple(samples[integers(fold(key, self._clock.hex()), len(samples), n)].tolist())

    def _disturb(
        self, times_ms: tuple[float, ...], key: Key, at: _Floats, shared: _Floats | np.float64
    ) -> tuple[float, ...]:
        """The samples with the disturbances of the device.

        key: of the config and the time. at: their times in seconds [n]. shared: further factors [n], or one for all.
        """
        device = self._device
        factors = device.noise(key, len(times_ms)) * [device.drift(t) for t in at.tolist()] * shared
        return tuple((np.array(times_ms) * factors).tolist())

    def _shared_factors(self, keys: Sequence[Key], i: int, orders: Sequence[Sequence[int]]) -> _Floats:
        """The factor of the i-th config in each round [rounds], by its process and by what ran before it.

        keys: of the configs and the time. orders: the order in each round.
        """
        device, spread = self._device, self._evaluator.processes
        befores = [order[order.index(i) - 1] if order[0] != i else None for order in orders]
        after = [device.after(None if before is None else keys[before], keys[i]) for before in befores]
        numbers = [number * spread // len(orders) for number in range(len(orders))]
        places = {number: device.process(fold(keys[i], "number", number)) for number in dict.fromkeys(numbers)}
        return np.array([factor * places[number] for factor, number in zip(after, numbers, strict=True)])

    def _finish_comparison(self) -> Compared:
        assert self._comparison is not None
        _, task = self._comparison
        self._comparison = None
        orders = [order_of_round(task, number) for number in range(task.rounds)]
        each_s = [self._time_ms(trial) / 1000 for trial in task.trials]
        begins = self._clock - sum(each_s) * (task.rounds - np.arange(task.rounds))
        outcomes = []
        keys = [fold(self._key, trial.config.digest, "compare") for trial in task.trials]
        timed_keys = [fold(key, self._clock.hex()) for key in keys]
        for i, trial in enumerate(task.trials):
            outcome = self._lookup(trial)
            if isinstance(outcome, Timed):
                times = self._draw(trial, task.rounds, keys[i])
                if not self._evaluator.disturbance.none:
                    at = begins + [sum(each_s[j] for j in order[: order.index(i)]) for order in orders]
                    times = self._disturb(times, timed_keys[i], at, self._shared_factors(timed_keys, i, orders))
                outcome = Timed(times, outcome.compile_s, sum(times) / 1000)
            outcomes.append((trial.id, outcome))
        return Compared(self._clock, tuple(outcomes))
