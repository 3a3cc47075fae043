"""A finished study: its runs and their scores, by strategy, recording and seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from autotune.studies.recordings.recording import Floats
from autotune.studies.runs import RunRecord
from autotune.studies.scores import Axis, Score, Scorer, kernel_names, recording_weights
from autotune.studies.spec import Case, StudySpec


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A recording of a study. path, digest: of its file. evaluations: of each run on it."""

    path: Path
    digest: str
    scorer: Scorer
    evaluations: int

    @property
    def name(self) -> str:
        return self.scorer.recording.name


@dataclass(frozen=True, eq=False, kw_only=True)
class StudyResult:
    """cases, benchmarks: the strategies and the recordings, in the order of the tables.

    runs: by label of the strategy, name of the recording, and seed.
    """

    spec: StudySpec
    cases: tuple[Case, ...]
    benchmarks: tuple[Benchmark, ...]
    runs: Mapping[tuple[str, str, int], RunRecord]

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The kernel of each recording."""
        return kernel_names([benchmark.scorer.recording for benchmark in self.benchmarks])

    @cached_property
    def weights(self) -> Floats:
        """[recordings] the weights of a mean over the recordings of a kernel and then over kernels."""
        return recording_weights(self.kernels)

    def runs_of(self, case: Case, benchmark: Benchmark) -> Iterator[RunRecord]:
        """The runs of a strategy on a recording, in the order of the seeds."""
        return (self.runs[case.label, benchmark.name, seed] for seed in self.spec.seed_list)

    @cached_property
    def scores(self) -> Mapping[tuple[str, str], tuple[Score, ...]]:
        """The scores by label and recording, in the order of the seeds."""
        return {
            (case.label, benchmark.name): tuple(
                benchmark.scorer.score(np.array(run.rows, np.int64)) for run in self.runs_of(case, benchmark)
            )
            for benchmark in self.benchmarks
            for case in self.cases
        }

    def scores_of(self, case: Case) -> tuple[tuple[Score, ...], ...]:
        """[recordings][seeds] the scores of a strategy."""
        return tuple(self.scores[case.label, benchmark.name] for benchmark in self.benchmarks)

    def score_matrix(self, case: Case, axis: Axis) -> Floats:
        """[recordings, seeds] the scores P of a strategy."""
        return np.array(
            [
                [score.by_time if axis == "time" else score.by_evaluations for score in scores]
                for scores in self.scores_of(case)
            ],
            np.float64,
        )

    def best_ms(self, case: Case, benchmark: Benchmark, axis: Axis) -> Floats:
        """[seeds, POINTS] the best recorded time at each point of the budget, in milliseconds."""
        runs = self.runs_of(case, benchmark)
        return np.array([benchmark.scorer.curve(np.array(run.rows, np.int64), axis) for run in runs])

    def curves(self, case: Case, benchmark: Benchmark, axis: Axis) -> Floats:
        """[seeds, POINTS] the same on the scale where random search is 0 and the optimum 1."""
        return benchmark.scorer.standardise(self.best_ms(case, benchmark, axis), axis)
