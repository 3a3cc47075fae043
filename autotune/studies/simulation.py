"""Searches on a recording instead of a device: its space, the table of its outcomes, and the traces of runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from autotune.core.config import Config
from autotune.core.constraints import Members
from autotune.core.errors import RecordingError
from autotune.core.outcomes import Failed, Outcome
from autotune.core.search.plan import Budget
from autotune.core.search.state import Search, start
from autotune.core.space import Space
from autotune.core.space_spec import FunctionSpec, SpaceSpec
from autotune.core.strategies.protocol import AnyStrategy
from autotune.core.strategies.registry import name_of
from autotune.shell.driver import Driver, Interruption
from autotune.shell.evaluators.simulated import SimulatedEvaluator
from autotune.shell.plans import make_plan
from autotune.studies.recordings import Recording, recorded_parameters
from autotune.studies.recordings.rows import Coder

_UNMEASURED = Failed("unknown", "this point was not recorded")

WITHOUT_FINISH: Mapping[str, Any] = {"simplify_rounds": 0, "verify_rounds": 0, "hopeless": 0}
"""Settings of a search that spends its whole budget on the strategy, as a comparison of strategies wants it."""


class RecordedTable:
    """The outcomes of a recording by config; a config that it does not hold fails as `_UNMEASURED`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._coder = Coder(recording.values)
        self._outcomes: dict[int, Outcome] = {}

    def row(self, config: Config) -> int | None:
        """The row of the recording that measured the config, or None."""
        try:
            return self._recording.row(self._coder.codes([config[name] for name in self._recording.parameters]))
        except (KeyError, ValueError):
            return None

    def outcome(self, config: Config) -> Outcome:
        row = self.row(config)
        if row is None:
            return _UNMEASURED
        if row not in self._outcomes:
            self._outcomes[row] = self._recording.outcome(row)
        return self._outcomes[row]

    def samples(self, config: Config) -> NDArray[np.float64]:
        """The recorded repeats less the first, which ran cold."""
        row = self.row(config)
        samples = np.empty(0) if row is None else self._recording.samples(row)
        return samples[1:] if len(samples) > 1 else samples


def recorded_space(recording: Recording) -> Space:
    """The space of a recording, in which exactly the recorded configs are valid.

    The parameters, constraints and default come from the file where it has them; else they are inferred from the
    values, and the set of recorded points is the constraint unless it is the full product. Raises RecordingError for a
    recording without points or with a damaged space.
    """
    if not len(recording):
        raise RecordingError(f"the recording {recording.name!r} holds no point, so there is nothing to search")
    spec = SpaceSpec(dict(recorded_parameters(recording)))
    if recording.space is not None:
        try:
            written = msgspec.json.decode(recording.space, type=SpaceSpec)
        except msgspec.DecodeError as error:
            raise RecordingError(
                f"the recording {recording.name!r} holds a space that cannot be read ({error})"
            ) from None
        constraints = tuple(c for c in written.constraints if not isinstance(c, FunctionSpec))
        spec = SpaceSpec(written.parameters, constraints, written.default)
    space = Space.from_spec(spec)
    if space.count() == len(recording):
        return space
    rows = space.encode([recording.config(row) for row in range(len(recording))])
    return Space(space.parameters, [*space.constraints, Members.of(space.parameters, space.names, rows)], space.default)


@dataclass(frozen=True)
class Simulation:
    """A recording with the space and the table that its searches need, built once for any number of runs."""

    recording: Recording
    space: Space
    table: RecordedTable

    @classmethod
    def of(cls, recording: Recording) -> "Simulation":
        return cls(recording, recorded_space(recording), RecordedTable(recording))


class Trace(Struct, frozen=True, kw_only=True):
    """One run, as a line of JSON: the points it measured, in order, and their cost.

    space: the recording. peer: the strategy. keys: the points as a Kernel Tuner cache file spells them.
    own_end: the strategy ended by itself. cpu_s: processor seconds of strategy and search, without evaluation. wall_s:
    seconds the whole run took here. rejected: proposals that were no new point of the recording.
    """

    space: str
    peer: str
    seed: int
    keys: tuple[str, ...]
    own_end: bool
    cpu_s: float
    wall_s: float
    rejected: int


@dataclass(frozen=True)
class SimulatedRun:
    """A finished simulated search and its trace."""

    search: Search
    trace: Trace


def simulate(
    simulation: Simulation,
    strategy: str | AnyStrategy,
    *,
    evaluations: int,
    seed: int = 0,
    effort: str = "full",
    settings: Mapping[str, Any] | None = None,
    evaluator: SimulatedEvaluator | None = None,
) -> SimulatedRun:
    """One search of `evaluations` configs at most; arguments as for `tune`.

    evaluator: how the device behaves (noise, workers, batches); by default exact, one config at a time.
    """
    began = time.perf_counter()
    evaluator = evaluator or SimulatedEvaluator(simulation.table)
    plan = make_plan(
        simulation.space,
        strategy,
        exact=evaluator.exact,
        effort=effort,
        budget=Budget(evaluations=evaluations),
        seed=seed,
        settings={**WITHOUT_FINISH, **(settings or {})},
    )
    cpu = time.process_time()
    search = start(plan)
    cpu = time.process_time() - cpu
    with evaluator.open(simulation.space) as session:
        driver = Driver(search, session, meter=time.process_time)
        search = driver.run(Interruption())
    recording, table = simulation.recording, simulation.table
    rows = [table.row(search.trials[trial].config) for trial in dict(search.outcomes)]
    concluded = search.concluded
    trace = Trace(
        space=recording.name,
        peer=name_of(plan.strategy),
        seed=seed,
        keys=tuple(recording.key(row) for row in rows if row is not None),
        own_end=concluded is not None and concluded.reason in ("strategy", "exhausted"),
        cpu_s=cpu + driver.own_s,
        wall_s=time.perf_counter() - began,
        rejected=search.rejected,
    )
    return SimulatedRun(search, trace)
