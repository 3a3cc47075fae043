"""`autotune cache …`: list the cache, explain a miss, merge, export and prune."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from autotune.cli.export import ExportFormat, KernelName, Rename, TritonVersion, write_for_library
from autotune.cli.options import AsJson, CacheDir, parse_settings
from autotune.cli.output import print_json, print_labelled
from autotune.cli.problem_file import load_problem
from autotune.core.config import Config
from autotune.core.errors import CacheError
from autotune.core.formatting import format_count, format_milliseconds
from autotune.core.outcomes import Timed
from autotune.core.search.report import format_counts, format_measured
from autotune.shell.cache.cache import Cache, device_label
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.hit_rule import shortfall
from autotune.shell.cache.identity import key_for
from autotune.shell.cache.inspect import NearEntry, Removal, export_entries, list_current, list_removals, merge_stores
from autotune.shell.cache.inspect import explain as nearest_entries
from autotune.shell.cache.keys import Constant, Key, Specialization, StrictKey, Tensor, fields_of
from autotune.shell.cache.nearest import Neighbour, find_neighbour
from autotune.shell.cache.reuse import KeyedCache, requirements
from autotune.shell.cache.store import Store, remove_path
from autotune.shell.options import resolve_options
from autotune.shell.settings import environment
from autotune.shell.tables import print_table
from autotune.shell.warn import warn_user

cache = typer.Typer(
    help="List, explain, merge, export and prune earlier searches.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Kernel = Annotated[str | None, typer.Option(help="Only kernels whose name contains this.")]


@cache.command("list")
def list_entries(
    cache_dir: CacheDir = None,
    kernel: Kernel = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the entries of the cache, newest first."""
    opened = open_cache(cache_dir)
    found = (entry for entry in opened.newest() if kernel is None or kernel in entry.key.loose.kernel)
    shown = [entry for entry, _ in zip(found, range(limit), strict=False)]
    if as_json:
        print_json({"cache": str(opened.directory), "entries": [_summary_fields(entry) for entry in shown]})
    else:
        _print_list(opened, shown)


@cache.command("show")
def show(
    entry: Annotated[str, typer.Argument(help="A run's id or its beginning, or an entry's file.")],
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show an entry: its key, its origin, its result and its measurements."""
    found = _find_entry(open_cache(cache_dir), entry)
    if as_json:
        print_json(_entry_fields(found))
    else:
        _print_entry(found)


@cache.command("explain")
def explain(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME]|ENTRY", help="A problem's file, or a run's id.")],
    cache_dir: CacheDir = None,
    strict: Annotated[bool, typer.Option("--strict", help="Compare the versions of the toolchain too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show so many of the nearest entries.")] = 3,
    changed: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME=VALUE", help="Explain the key with this argument instead; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a problem is in the cache, and which fields differ in the entries nearest to it.

    Where it is not, also which config a decorated kernel with miss="nearest" would run with.
    """
    opened = open_cache(cache_dir)
    key, own, decide = _resolve_key(opened, target, strict)
    if changed:
        key, own, decide = _change_arguments(key, parse_settings(changed, "--with", "n=3000")), "", _unfinished_reason
    near = nearest_entries(opened, key, at_most=limit, without=own)
    why = {n.entry.name: decide(n.entry) for n in near if not n.differences}
    known = own or "" in why.values()
    shape = None if known else find_neighbour(opened, key.loose, lambda config: config)
    if as_json:
        nearest = [_near_fields(n, why.get(n.entry.name)) for n in near]
        fields = {"digest": key.digest, "fields": fields_of(key)}
        print_json({"key": fields, "nearest": nearest, "nearest_shape": _neighbour_fields(shape)})
    else:
        _print_near(opened, key, near, why)
        if shape is not None:
            print()
            print_labelled([("miss=nearest", shape.description), ("config", shape.config.to_json())])


@cache.command("merge")
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Other cache directories.")],
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy into the cache the entries of other cache directories that it lacks."""
    into = open_cache(cache_dir).stores[0]
    rows = {}
    for source in sources:
        _require_directory(source)
        rows[str(source)] = merge_stores(Store(source), into)
    if as_json:
        print_json({"cache": str(into.directory), "merged": rows})
        return
    for name, done in rows.items():
        broken = f", {done.broken} broken" if done.broken else ""
        print_labelled([(name, f"{done.copied} copied, {done.known} known already{broken}")])


@cache.command("export")
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A directory; files in it stay.")],
    cache_dir: CacheDir = None,
    kernel: Kernel = None,
    device: Annotated[str | None, typer.Option(help="Only devices whose name contains this.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of each key the fastest entry alone.")] = False,
    results: Annotated[bool, typer.Option("--results", help="The results without the measurements.")] = False,
    export_format: ExportFormat = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="FIELD", help="The size of an entry: a field as `cache explain` names it, or N.0."
        ),
    ] = None,
    rename: Rename = None,
    kernel_name: KernelName = "",
    triton_version: TritonVersion = "",
    as_json: AsJson = False,
) -> None:
    """Copy the finished entries into a directory that can be shipped with a package and layered under a cache.

    With --export-format and --by, OUT is one file instead, as another library reads it: the best config of each size.
    """

    def is_wanted(entry: Entry) -> bool:
        key = entry.key.loose
        return (kernel or "") in key.kernel and (device or "") in key.device.name

    source = open_cache(cache_dir).stores[0]
    if export_format is not None:
        found = [entry for entry in list_current(source) if entry.result is not None and is_wanted(entry)]
        write_for_library(_best_by_size(found, by), out, export_format, rename, kernel_name, triton_version, as_json)
        return
    count = export_entries(source, Store(out), is_wanted, only_best=best, measurements=not results)
    if as_json:
        print_json({"out": str(out), "entries": count})
    else:
        print_labelled([("exported", f"{count} entries to {out}")])


@cache.command("prune")
def prune(
    cache_dir: CacheDir = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Also entries written longer ago.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Also all but the newest so many of a key; the fastest stays.")
    ] = None,
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Also entries of a toolchain that is not installed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files that would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove broken, unfinished and superseded entries, and entries that the options name."""
    store = open_cache(cache_dir).stores[0]
    found = list_removals(store, older_than_days=older_than, keep=keep, other_versions=other_versions)
    if not dry_run:
        for removal in found:
            if not remove_path(removal.path):
                warn_user(f"{removal.path} ({removal.why}) cannot be removed; remove it by hand")
    if as_json:
        print_json({"removed": not dry_run, "files": [{"path": str(r.path), "why": r.why} for r in found]})
    else:
        _print_removals(found, dry_run)


def _best_by_size(entries: Iterable[Entry], field: str | None) -> list[tuple[Any, Config]]:
    """The best config of each size, which is a field of the keys.

    Raises CacheError where no field is named, or where entries differ in other fields too.
    """
    best: dict[Any, tuple[float, Entry, Config]] = {}
    for entry in entries:
        fields = fields_of(entry.key.loose)
        if field is None:
            raise CacheError(f"--export-format needs --by FIELD; the entries have {', '.join(fields)}")
        if entry.result is None:
            continue
        size, found = size_field(fields, field), (entry.result.best.time_ms, entry, Config(entry.result.best.config))
        other = best.setdefault(size, found)
        others = fields_of(other[1].key.loose)
        if any(fields.get(n) != others.get(n) for n in {**fields, **others} if not field.startswith(n)):
            names = f"{other[1].name} and {entry.name}"
            raise CacheError(f"{names} both have {field} = {size} and differ otherwise; narrow --kernel or --device")
        best[size] = min(other, found, key=lambda known: known[0])
    return [(size, config) for size, (_, _, config) in best.items()]


def size_field(fields: dict[str, Any], name: str) -> Any:
    """The value of a field, or the part of it at a last number: specialization.arguments.x.shape.0."""
    stem, _, last = name.rpartition(".")
    value = fields.get(name)
    if name not in fields and last.isdecimal() and isinstance(fields.get(stem), list | tuple):
        value = dict(enumerate(fields[stem])).get(int(last))
    if not isinstance(value, int) or isinstance(value, bool):
        raise CacheError(f"the field {name!r} is {value!r} and no size; the fields are {', '.join(fields)}")
    return value


def open_cache(directory: Path | None) -> Cache:
    if directory is not None:
        _require_directory(directory)
    return Cache(directory)


def _require_directory(directory: Path) -> None:
    if not os.path.isdir(directory):
        raise CacheError(f"there is no directory {directory}; check the path")


def _find_entry(opened: Cache, text: str) -> Entry:
    """The entry that a run's id, its beginning or a file names."""
    name = Path(text).name
    found = [e for e in opened.newest() if e.name == name or (text and e.run.id.startswith(text))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CacheError(f"{opened.directory} has no entry {text!r}; `autotune cache list` shows all")
    raise CacheError(f"{text!r} could be any of {len(found)} entries of {opened.directory}; give more of the run's id")


def _resolve_key(opened: Cache, target: str, strict: bool) -> tuple[Key, str, Callable[[Entry], str]]:
    """The key of a problem, or of an entry; the name of that entry, else ""; and a function that says why `tune` would
    not take an entry of that key as its result, "" for the entry that it takes."""
    if target.isalnum() and not os.path.exists(target):
        entry = _find_entry(opened, target)
        return (entry.key if strict else entry.key.loose), entry.name, _unfinished_reason
    problem = load_problem(target)
    key: Key = key_for(problem.space, problem.evaluator)
    if strict:
        from autotune.shell.cache.identity import installed_versions

        key = StrictKey(key.loose, installed_versions())
    given = (problem.strategy, problem.effort, problem.budget, problem.seed)
    options = resolve_options(environment(), *given, settings=problem.settings)
    wanted = requirements(options, problem.seeds)
    found = KeyedCache(opened, key).hit(wanted, problem.space)
    hit = None if found is None else found.entry

    def decide(entry: Entry) -> str:
        if hit is not None:
            return "" if hit.name == entry.name else f"run {hit.run.id[:8]} goes before it"
        return shortfall(entry, wanted) or "its config was rejected, or is of no use here"

    return key, "", decide


def _change_arguments(key: Key, values: Mapping[str, Any]) -> Key:
    """The key with other values of arguments; raises CacheError for a name that it does not have."""
    found = key.loose.specialization
    known = [name for name, one in found.arguments.items() if isinstance(one, Constant)]
    odd = [name for name in values if name not in known]
    if odd:
        raise CacheError(f"--with {odd[0]}: the key has no such value; it has {', '.join(known) or 'none'}")
    arguments = {**found.arguments, **{name: Constant(value) for name, value in values.items()}}
    changed = msgspec.structs.replace(found, arguments=arguments)
    loose = msgspec.structs.replace(key.loose, specialization=changed)
    return StrictKey(loose, key.versions) if isinstance(key, StrictKey) else loose


def _unfinished_reason(entry: Entry) -> str:
    return "" if entry.finished else "it did not come to its end"


# Output


_COLUMNS = ("run", "kernel", "device", "arguments", "best", "measured", "when", "state")


def _summary_fields(entry: Entry) -> dict[str, Any]:
    return {
        "run": entry.run.id,
        "entry": entry.name,
        "key": entry.key.digest,
        "kernel": entry.key.loose.kernel,
        "device": device_label(entry.key.loose.device),
        "arguments": _format_arguments(entry.key.loose.specialization),
        "best_ms": None if entry.result is None else entry.result.best.time_ms,
        "config": entry.best,
        "measured": len(entry.measurements),
        "written_at": entry.run.written_at,
        "state": _state(entry),
    }


def _entry_fields(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.name,
        "key": entry.key,
        "run": entry.run,
        "result": entry.result,
        "supersedes": entry.supersedes,
        "rejects": entry.rejects,
        "measurements": entry.measurements,
    }


def _near_fields(near: NearEntry, why: str | None) -> dict[str, Any]:
    """why: the reason why an entry of this very key is no hit; "" for the hit, None for entries of other keys."""
    return {
        "run": near.entry.run.id,
        "distance": near.distance,
        "hit": why == "",
        "why": why,
        "differences": [difference._asdict() for difference in near.differences],
    }


def _neighbour_fields(found: Neighbour | None) -> dict[str, Any] | None:
    if found is None:
        return None
    run = found.entry.run.id
    return {"run": run, "shape": found.shape, "distance": found.distance, "config": found.config}


def _state(entry: Entry) -> str:
    if entry.finished:
        return "finished"
    return "interrupted" if entry.run.stopped == "interrupted" else "no result" if entry.run.stopped else "unfinished"


def _format_arguments(specialization: Specialization) -> str:
    """Arguments in short, such as float16[4096,4096] 3."""
    texts = [_format_argument(argument) for argument in specialization.arguments.values()]
    return " ".join([*texts, *(f"{name}={value}" for name, value in specialization.constants.items())])


def _format_argument(argument: Tensor | Constant) -> str:
    if isinstance(argument, Constant):
        return str(argument.value)
    strides = "" if argument.strides == "contiguous" else f"({argument.strides})"
    return f"{argument.dtype}[{','.join(map(str, argument.shape))}]{strides}"


def _print_list(opened: Cache, entries: Sequence[Entry]) -> None:
    if not entries:
        print_labelled([("cache", f"{opened.directory}: no entries")])
        return
    print_labelled([("cache", str(opened.directory))])
    print_table(_COLUMNS, [_row(entry) for entry in entries])


def _row(entry: Entry) -> tuple[str, ...]:
    best = "-" if entry.result is None else format_milliseconds(entry.result.best.time_ms)
    key = entry.key.loose
    return (
        entry.run.id[:8], key.kernel, key.device.name, _format_arguments(key.specialization), best,
        str(len(entry.measurements)), _format_time(entry.run.written_at), _state(entry),
    )  # fmt: skip


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def _print_entry(entry: Entry) -> None:
    rows = [(name, str(value)) for name, value in fields_of(entry.key).items()]
    run = entry.run
    began, written = _format_time(run.began_at), _format_time(run.written_at)
    strategy = "-" if run.strategy is None else run.strategy.name
    failed = sum(not isinstance(m.outcome, Timed) for m in entry.measurements)
    rows += [
        ("entry", entry.name),
        ("run", f"{run.id} on {run.host.get('node', '?')}, {began} to {written} UTC"),
        ("search", f"{strategy}, effort {run.effort}, seed {run.seed}: {_state(entry)}"),
        ("measured", f"{format_count(len(entry.measurements), 'config')}, {failed} of them failed"),
    ]
    if entry.result is not None:
        rows.append(("best", format_measured(entry.result.best)))
        rows.append(("counts", format_counts(entry.result.counts)))
        rows.append(("config", entry.result.best.config.to_json()))
    print_labelled(rows)


def _print_near(opened: Cache, key: Key, near: Sequence[NearEntry], why: Mapping[str, str]) -> None:
    """why: by name of an entry of this key, the reason why it is no hit; "" for the hit."""
    print_labelled([("cache", str(opened.directory)), ("kernel", key.loose.kernel), ("key", key.digest)])
    if not near:
        print_labelled([("nearest", "nothing: there are no other entries")])
    for each in near:
        print()
        print_labelled(
            [("run", f"{each.entry.run.id[:8]}, {_format_time(each.entry.run.written_at)}, {_state(each.entry)}")]
        )
        if each.differences:
            rows = [(d.field, _or_dash(d.wanted), _or_dash(d.found)) for d in each.differences]
            print_table(("field", "wanted", "in the cache"), rows)
        elif not why[each.entry.name]:
            print_labelled([("hit", "every field of the key is the same")])
        else:
            print_labelled([("same key", f"{why[each.entry.name]}: its measurements are used, it is no result")])


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)


def _print_removals(found: Sequence[Removal], dry_run: bool) -> None:
    for removal in found:
        print_labelled([(removal.path.name, removal.why)])
    print_labelled([("would be removed" if dry_run else "removed", format_count(len(found), "file"))])
