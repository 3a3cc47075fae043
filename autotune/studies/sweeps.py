"""The effect of the settings that a study sweeps: each value against the first one."""

from autotune.studies.compare import bootstrap
from autotune.studies.metrics import AXES
from autotune.studies.study_result import StudyResult
from autotune.studies.tables import Table, estimated, number, with_interval


def sweep_table(result: StudyResult) -> Table:
    """Each setting of each swept strategy; the effects are against its first row, paired by recording and seed."""
    settings = tuple(result.spec.sweep)
    titles = [(title, *with_interval(f"{title} effect")) for title in ("P by time", "P by evaluations")]
    header = ("strategy", *settings, *(title for four in titles for title in four))
    first = {case.base: case for case in reversed(result.cases)}
    rows = []
    for case in result.cases:
        if case.swept:
            cells = [case.base, *(str(case.swept.get(setting, "-")) for setting in settings)]
            for axis in AXES:
                own, reference = (result.score_matrix(one, axis) for one in (case, first[case.base]))
                cells.append(number(bootstrap(own, result.kernels).mean))
                cells += estimated(bootstrap(own - reference, result.kernels))
            rows.append(tuple(cells))
    return Table("sweep", "The effect of the settings", header, tuple(rows))
