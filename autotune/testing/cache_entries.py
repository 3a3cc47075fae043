"""Keys and entries of a cache by number."""

from autotune import Config, Device, LooseKey, Specialization, StrictKey, Timed
from autotune.core.search.result import MeasuredConfig, Result
from autotune.shell.cache.entries import Entry, Measurement, Provenance, make_entry, new_run
from autotune.shell.cache.keys import Constant, Versions


def numbered_key(number: int, versions: str = "1") -> StrictKey:
    loose = LooseKey(
        kernel="kernel",
        source="0" * 32,
        specialization=Specialization({"n": Constant(number)}),
        device=Device(kind="cpu", name="any"),
        space="f" * 32,
    )
    return StrictKey(loose, Versions(autotune=versions))


def numbered_entry(
    number: int,
    times_ms: dict[int, float],
    *,
    run: Provenance | None = None,
    versions: str = "1",
    finished: bool = True,
    supersedes: tuple[str, ...] = (),
    rejects: tuple[Config, ...] = (),
) -> Entry:
    """An entry of key `number`, with a time for the config {"n": i} for each i."""
    measured = tuple(Measurement(Config(n=i), Timed((t,))) for i, t in times_ms.items())
    result = None
    if times_ms:
        best = min(times_ms, key=times_ms.__getitem__)
        t = times_ms[best]
        found = MeasuredConfig(best, Config(n=best), t, t, t, (t,))
        result = Result(
            found, None, (), None, {"timed": len(measured)}, len(measured), 1.0, "strategy", "", complete=finished
        )
    key = numbered_key(number, versions)
    return make_entry(key, run or new_run(), measured, result=result, supersedes=supersedes, rejects=rejects)
