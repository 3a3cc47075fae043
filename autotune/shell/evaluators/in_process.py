"""A session in this process: for notebooks and unpicklable functions. No timeouts; nothing survives a crash."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autotune.core.errors import EvaluatorError
from autotune.core.formatting import describe_error
from autotune.core.outcomes import Failed, Outcome, Trial
from autotune.core.search.messages import Compare, Limits
from autotune.shell.evaluators.bench import Bench, BuiltConfig, Tainted
from autotune.shell.evaluators.comparison import Comparison, Contender, Step, take_turns
from autotune.shell.evaluators.protocol import QueueSession
from autotune.shell.evaluators.workload import Workload


@dataclass(eq=False, kw_only=True)
class _Contender(Contender):
    trial: Trial
    kernel: BuiltConfig | None = None


class InProcessSession(QueueSession):
    """Each `poll` builds and times one trial, or does one comparison."""

    def __init__(self, work: Workload, run_timeout_s: float, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        try:
            self._bench = Bench(work)
        except (Exception, SystemExit) as error:
            raise EvaluatorError(f"the workload cannot be set up: {describe_error(error)}") from error
        self._run_timeout_s = run_timeout_s

    def _measure(self, trials: Sequence[Trial], limits: Limits) -> Sequence[Outcome]:
        (trial,) = trials
        kernel = self._bench.build(trial.config)
        if isinstance(kernel, Failed):
            return [kernel]
        try:
            return [self._bench.run(kernel, limits.cutoff_ms, self._run_timeout_s)]
        except Tainted as error:
            raise _tainted_error(trial, error) from error

    def _compare(self, task: Compare) -> tuple[tuple[int, Outcome], ...]:
        contenders = [_Contender(trial=trial, place=place) for place, trial in enumerate(task.trials)]
        outcomes = take_turns(Comparison.of(task, contenders, self._clock), self._act)
        return tuple((trial.id, outcome) for trial, outcome in zip(task.trials, outcomes, strict=True))

    def _act(self, contender: _Contender, step: Step) -> float | Failed | None:
        bench = self._bench
        if step == "build":
            built = bench.build(contender.trial.config)
            if isinstance(built, Failed):
                return built
            contender.kernel = built
            return None
        assert contender.kernel is not None, "it was built before"
        do: dict[Step, Callable[[BuiltConfig], float | Failed | None]]
        do = {"prepare": bench.prepare, "sample": bench.sample, "verify": bench.verify}
        try:
            return do[step](contender.kernel)
        except Tainted as error:
            raise _tainted_error(contender.trial, error) from error


def _tainted_error(trial: Trial, error: Tainted) -> EvaluatorError:
    return EvaluatorError(f'{error} while {trial.config} ran; use isolation="process", where that costs one config')
