"""A finished study: its runs and their scores, by strategy, recording and seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune.studies.scores import Axis, Judge, Score, kernels_of, weights_of
from autotune.studies.spec import Case, StudySpec
from autotune.studies.task import RunRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """A recording of a study: where it is, how runs on it are judged, and how many evaluations each has."""

    path: Path
    digest: str
    judge: Judge
    evaluations: int

    @property
    def name(self) -> str:
        return self.judge.recording.name


@dataclass(frozen=True, eq=False)
class StudyResult:
    """cases, courses: the strategies and the recordings, in the order of the tables.

    runs: by label of the strategy, name of the recording, and seed.
    """

    spec: StudySpec
    cases: tuple[Case, ...]
    courses: tuple[Course, ...]
    runs: Mapping[tuple[str, str, int], RunRecord]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.spec.seed_list

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The kernel of each recording."""
        return kernels_of([course.judge.recording for course in self.courses])

    @cached_property
    def weights(self) -> Floats:
        """[recordings] of a mean over the recordings of a kernel and then over kernels."""
        return weights_of(self.kernels)

    def runs_of(self, case: Case, course: Course) -> Iterator[RunRecord]:
        """In the order of the seeds."""
        return (self.runs[case.label, course.name, seed] for seed in self.seeds)

    @cached_property
    def scores(self) -> Mapping[tuple[str, str], tuple[Score, ...]]:
        """By label and recording, in the order of the seeds."""
        return {
            (case.label, course.name): tuple(
                course.judge.score(np.array(run.rows, np.int64)) for run in self.runs_of(case, course)
            )
            for course in self.courses
            for case in self.cases
        }

    def scores_of(self, case: Case) -> tuple[tuple[Score, ...], ...]:
        """[recordings][seeds]."""
        return tuple(self.scores[case.label, course.name] for course in self.courses)

    def score_matrix(self, case: Case, axis: Axis) -> Floats:
        """[recordings, seeds] the scores P."""
        name = "by_time" if axis == "time" else "by_evaluations"
        return np.array([[getattr(score, name) for score in scores] for scores in self.scores_of(case)], np.float64)

    def best_ms(self, case: Case, course: Course, axis: Axis) -> Floats:
        """[seeds, POINTS] the best recorded time at each point of the budget."""
        return np.array([course.judge.curve(np.array(r.rows, np.int64), axis) for r in self.runs_of(case, course)])

    def curves(self, case: Case, course: Course, axis: Axis) -> Floats:
        """[seeds, POINTS] the same, standardised: 0 is random search, 1 the optimum."""
        return course.judge.standardised(self.best_ms(case, course, axis), axis)
