"""The effect of the settings that a study sweeps: each value against the first one."""

from autotune.studies.compare import bootstrap
from autotune.studies.study_result import StudyResult
from autotune.studies.tables import Table, interval, number


def sweep_table(result: StudyResult) -> Table:
    """Each setting of each swept strategy; the differences are to its first row, paired by recording and seed."""
    settings = tuple(result.spec.sweep)
    axes = (("time", "P by time"), ("evaluations", "P by evaluations"))
    header = ["strategy", *settings]
    for _, title in axes:
        header += [title, f"{title}: less the first", f"{title}: 95 %"]
    first = {case.base: case for case in reversed(result.cases)}
    rows = []
    for case in result.cases:
        if not case.swept:
            continue
        cells = [case.base, *(str(case.swept.get(setting, "-")) for setting in settings)]
        for axis in ("time", "evaluations"):
            own, reference = (result.score_matrix(c, axis) for c in (case, first[case.base]))
            effect = bootstrap(own - reference, result.kernels)
            mean = float(result.weights @ own.mean(axis=1))
            cells += [number(mean), number(effect.mean), interval(effect.low, effect.high)]
        rows.append(tuple(cells))
    return Table("sweep", "The effect of the settings", tuple(header), tuple(rows))
