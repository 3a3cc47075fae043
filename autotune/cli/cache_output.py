"""Cache entries, for people and for machines."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from autotune.cli.output import print_labelled, print_table
from autotune.cli.summary import counts_text, measured_text
from autotune.core.outcomes import Timed
from autotune.shell.cache.cache import Cache, device_label
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.inspect import NearEntry, Removal
from autotune.shell.cache.keys import Constant, Key, Specialization, Tensor, fields_of
from autotune.shell.formatting import format_count, format_milliseconds

HEADER = ("run", "kernel", "device", "arguments", "best", "measured", "when", "state")


def summary(entry: Entry) -> dict[str, Any]:
    """The fields of an entry in a list."""
    return {
        "run": entry.run.id,
        "entry": entry.name,
        "key": entry.key.digest,
        "kernel": entry.key.loose.kernel,
        "device": device_label(entry.key.loose.device),
        "arguments": arguments(entry.key.loose.specialization),
        "best_ms": None if entry.result is None else entry.result.best.time_ms,
        "config": entry.best,
        "measured": len(entry.measurements),
        "written_at": entry.run.written_at,
        "state": state(entry),
    }


def full(entry: Entry) -> dict[str, Any]:
    """An entry with all that is in it."""
    return {
        "entry": entry.name,
        "key": entry.key,
        "run": entry.run,
        "result": entry.result,
        "supersedes": entry.supersedes,
        "rejects": entry.rejects,
        "measurements": entry.measurements,
    }


def key_fields(key: Key) -> dict[str, Any]:
    return {"digest": key.digest, "fields": fields_of(key)}


def near_fields(near: NearEntry, why: str | None) -> dict[str, Any]:
    """An entry near to a key. why: why one of this very key is no hit; "" for the hit, None for those of other keys."""
    return {
        "run": near.entry.run.id,
        "distance": near.distance,
        "hit": why == "",
        "why": why,
        "differences": [{"field": d.field, "wanted": d.wanted, "found": d.found} for d in near.differences],
    }


def state(entry: Entry) -> str:
    if entry.finished:
        return "finished"
    return "interrupted" if entry.run.stopped == "interrupted" else "no result" if entry.run.stopped else "unfinished"


def arguments(specialization: Specialization) -> str:
    """Arguments in a few words, such as float16[4096,4096] 3."""
    texts = [_argument(argument) for argument in specialization.arguments.values()]
    return " ".join([*texts, *(f"{name}={value}" for name, value in specialization.constants.items())])


def _argument(argument: Tensor | Constant) -> str:
    if isinstance(argument, Constant):
        return str(argument.value)
    strides = "" if argument.strides == "contiguous" else f"({argument.strides})"
    return f"{argument.dtype}[{','.join(map(str, argument.shape))}]{strides}"


def print_list(cache: Cache, entries: Sequence[Entry]) -> None:
    if not entries:
        print_labelled([("cache", f"{cache.directory}: no entries")])
        return
    print_labelled([("cache", str(cache.directory))])
    print_table(HEADER, [_row(entry) for entry in entries])


def _row(entry: Entry) -> tuple[str, ...]:
    best = "-" if entry.result is None else format_milliseconds(entry.result.best.time_ms)
    key = entry.key.loose
    return (
        entry.run.id[:8], key.kernel, key.device.name, arguments(key.specialization), best,
        str(len(entry.measurements)), when(entry.run.written_at), state(entry),
    )  # fmt: skip


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def print_entry(entry: Entry) -> None:
    rows = [(name, str(value)) for name, value in fields_of(entry.key).items()]
    run = entry.run
    strategy = "-" if run.strategy is None else run.strategy.name
    failed = sum(not isinstance(m.outcome, Timed) for m in entry.measurements)
    rows += [
        ("entry", entry.name),
        ("run", f"{run.id} on {run.host.get('node', '?')}, {when(run.began_at)} to {when(run.written_at)} UTC"),
        ("search", f"{strategy}, effort {run.effort}, seed {run.seed}: {state(entry)}"),
        ("measured", f"{format_count(len(entry.measurements), 'config')}, {failed} of them failed"),
    ]
    if entry.result is not None:
        rows.append(("best", measured_text(entry.result.best)))
        rows.append(("counts", counts_text(entry.result.counts)))
        rows.append(("config", entry.result.best.config.to_json()))
    print_labelled(rows)


def print_near(cache: Cache, key: Key, near: Sequence[NearEntry], why: Mapping[str, str]) -> None:
    """why: for the entries of this key, by name, why they are no hit; "" for the hit."""
    print_labelled([("cache", str(cache.directory)), ("kernel", key.loose.kernel), ("key", key.digest)])
    if not near:
        print_labelled([("nearest", "nothing: there are no other entries")])
    for each in near:
        print()
        print_labelled([("run", f"{each.entry.run.id[:8]}, {when(each.entry.run.written_at)}, {state(each.entry)}")])
        if each.differences:
            rows = [(d.field, _shown(d.wanted), _shown(d.found)) for d in each.differences]
            print_table(("field", "wanted", "in the cache"), rows)
        elif not why[each.entry.name]:
            print_labelled([("hit", "every field of the key is the same")])
        else:
            print_labelled([("same key", f"{why[each.entry.name]}: its measurements are used, it is no result")])


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def print_removals(found: Sequence[Removal], dry_run: bool) -> None:
    for removal in found:
        print_labelled([(removal.path.name, removal.why)])
    print_labelled([("would be removed" if dry_run else "removed", format_count(len(found), "file"))])
