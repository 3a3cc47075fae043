"""`autotune cache …`: what is in the cache, why a key missed, and its housekeeping. One function a subcommand."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any
from warnings import warn

import typer

from autotune.cli import cache_output
from autotune.cli.export import ExportFormat, KernelName, Rename, TritonVersion, reported
from autotune.cli.import_ import checked_format, pairs
from autotune.cli.options import AsJson
from autotune.cli.output import print_json, print_labelled, stdout_for_results
from autotune.cli.problem_file import load_problem
from autotune.core.config import Config
from autotune.core.errors import CacheError
from autotune.interop.tuned_configs import write_tuned_configs
from autotune.shell.cache.cache import Cache
from autotune.shell.cache.entries import Entry
from autotune.shell.cache.hit_rule import shortfall
from autotune.shell.cache.identity import key_for
from autotune.shell.cache.inspect import explain as explained
from autotune.shell.cache.inspect import export_entries as exported
from autotune.shell.cache.inspect import list_current, list_removals
from autotune.shell.cache.inspect import merge_stores as merged
from autotune.shell.cache.keys import Key, StrictKey, fields_of
from autotune.shell.cache.reuse import KeyedCache, requirements
from autotune.shell.cache.store import Store, remove_path
from autotune.shell.options import resolve_options
from autotune.shell.settings import environment

cache = typer.Typer(
    help="What earlier searches measured: list it, explain a miss, merge, export and prune.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Directory = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="DIR", help="The cache; else AUTOTUNE_CACHE_DIR, else the user's.")
]
Kernel = Annotated[str | None, typer.Option(help="Only kernels whose name contains this.")]


@cache.command("list")
def list_entries(
    cache_dir: Directory = None,
    kernel: Kernel = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the entries of the cache, newest first."""
    opened = _opened(cache_dir)
    found = (entry for entry in opened.newest() if kernel is None or kernel in entry.key.loose.kernel)
    shown = [entry for entry, _ in zip(found, range(limit), strict=False)]
    if as_json:
        print_json({"cache": str(opened.directory), "entries": [cache_output.summary(entry) for entry in shown]})
    else:
        cache_output.print_list(opened, shown)


@cache.command("show")
def show(
    entry: Annotated[str, typer.Argument(help="A run's id or its beginning, or an entry's file.")],
    cache_dir: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Show an entry: its key, where it comes from, what it found and what it measured."""
    found = _entry(_opened(cache_dir), entry)
    if as_json:
        print_json(cache_output.full(found))
    else:
        cache_output.print_entry(found)


@cache.command("explain")
def explain(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME]|ENTRY", help="A problem's file, or a run's id.")],
    cache_dir: Directory = None,
    strict: Annotated[bool, typer.Option("--strict", help="Compare the versions of the toolchain too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show so many of the nearest entries.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Say whether a problem is in the cache, and which fields differ in the entries nearest to it."""
    opened = _opened(cache_dir)
    key, own, decide = _key(opened, target, strict)
    near = explained(opened, key, at_most=limit, without=own)
    why = {n.entry.name: decide(n.entry) for n in near if not n.differences}
    if as_json:
        nearest = [cache_output.near_fields(n, why.get(n.entry.name)) for n in near]
        print_json({"key": cache_output.key_fields(key), "nearest": nearest})
    else:
        cache_output.print_near(opened, key, near, why)


@cache.command("merge")
def merge_stores(
    sources: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Other cache directories.")],
    cache_dir: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Copy into the cache what other cache directories have and it lacks."""
    into = _opened(cache_dir).stores[0]
    rows = {}
    for source in sources:
        _there(source)
        rows[str(source)] = merged(Store(source, writable=False), into)
    if as_json:
        print_json({"cache": str(into.directory), "merged": rows})
        return
    for name, done in rows.items():
        broken = f", {done.broken} broken" if done.broken else ""
        print_labelled([(name, f"{done.copied} copied, {done.known} known already{broken}")])


@cache.command("export")
def export_entries(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A directory; what is in it stays.")],
    cache_dir: Directory = None,
    kernel: Kernel = None,
    device: Annotated[str | None, typer.Option(help="Only devices whose name contains this.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of each key the fastest entry alone.")] = False,
    results: Annotated[bool, typer.Option("--results", help="The results without all that was measured.")] = False,
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

    def wanted(entry: Entry) -> bool:
        key = entry.key.loose
        return (kernel or "") in key.kernel and (device or "") in key.device.name

    source = _opened(cache_dir).stores[0]
    if export_format is not None:
        found = [entry for entry in list_current(source) if entry.result is not None and wanted(entry)]
        names = {ours: str(theirs) for ours, theirs in pairs(rename or (), "--rename").items()}
        chosen = checked_format(export_format) or "vllm"
        configs = _by_size(found, by)
        write_tuned_configs(configs, out, chosen, rename=names, kernel_name=kernel_name, triton_version=triton_version)
        reported(out, chosen, len(configs), as_json)
        return
    count = exported(source, Store(out), wanted, only_best=best, measurements=not results)
    if as_json:
        print_json({"out": str(out), "entries": count})
    else:
        print_labelled([("exported", f"{count} entries to {out}")])


@cache.command("prune")
def prune(
    cache_dir: Directory = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Also entries written longer ago.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Also all but the newest so many of a key; the fastest stays.")
    ] = None,
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Also entries of a toolchain that is not installed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is broken, unfinished or superseded, and what the options name."""
    store = _opened(cache_dir).stores[0]
    found = list_removals(store, older_than_days=older_than, keep=keep, other_versions=other_versions)
    if not dry_run:
        for removal in found:
            if not remove_path(removal.path):
                warn(f"{removal.path} ({removal.why}) cannot be removed; remove it by hand", stacklevel=1)
    if as_json:
        print_json({"removed": not dry_run, "files": [{"path": str(r.path), "why": r.why} for r in found]})
    else:
        cache_output.print_removals(found, dry_run)


def _by_size(entries: Iterable[Entry], field: str | None) -> list[tuple[Any, Config]]:
    """The best config of each size, which is a field of the keys.

    Raises CacheError where no field is named, or where entries differ in others too.
    """
    best: dict[Any, tuple[float, Entry, Config]] = {}
    for entry in entries:
        fields = fields_of(entry.key.loose)
        if field is None:
            raise CacheError(f"--export-format needs --by FIELD; the entries have {', '.join(fields)}")
        if entry.result is None:
            continue
        size, found = _field(fields, field), (entry.result.best.time_ms, entry, Config(entry.result.best.config))
        other = best.setdefault(size, found)
        if _differs(fields, fields_of(other[1].key.loose), field):
            names = f"{other[1].name} and {entry.name}"
            raise CacheError(f"{names} both have {field} = {size} and differ otherwise; narrow --kernel or --device")
        best[size] = min(other, found, key=lambda known: known[0])
    return [(size, config) for size, (_, _, config) in best.items()]


def _differs(one: dict[str, Any], other: dict[str, Any], field: str) -> bool:
    return any(one.get(name) != other.get(name) for name in {**one, **other} if not field.startswith(name))


def _field(fields: dict[str, Any], name: str) -> Any:
    """The value of a field, or the part of it that a last number counts out: specialization.arguments.x.shape.0."""
    stem, _, last = name.rpartition(".")
    value = fields.get(name)
    if name not in fields and last.isdecimal() and isinstance(fields.get(stem), list | tuple):
        value = dict(enumerate(fields[stem])).get(int(last))
    if not isinstance(value, int) or isinstance(value, bool):
        raise CacheError(f"the field {name!r} is {value!r} and no size; the fields are {', '.join(fields)}")
    return value


def _opened(directory: Path | None) -> Cache:
    if directory is not None:
        _there(directory)
    return Cache(directory)


def _there(directory: Path) -> None:
    if not os.path.isdir(directory):
        raise CacheError(f"there is no directory {directory}; check the path")


def _entry(opened: Cache, text: str) -> Entry:
    """The entry that a run's id, its beginning or a file names."""
    name = Path(text).name
    found = [e for e in opened.newest() if e.name == name or (text and e.run.id.startswith(text))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CacheError(f"{opened.directory} has no entry {text!r}; `autotune cache list` shows what there is")
    raise CacheError(f"{text!r} could be any of {len(found)} entries of {opened.directory}; give more of the run's id")


def _key(opened: Cache, target: str, strict: bool) -> tuple[Key, str, Callable[[Entry], str]]:
    """The key of a problem, or of an entry with its name; and why `tune` would not take an entry of that key as its
    result: "" for the one that it takes."""
    if target.isalnum() and not os.path.exists(target):
        entry = _entry(opened, target)
        return (entry.key if strict else entry.key.loose), entry.name, lambda other: _state(other)
    with stdout_for_results():
        problem = load_problem(target)
    key: Key = key_for(problem.space, problem.evaluator)
    if strict:
        from autotune.shell.cache.identity import installed_versions

        key = StrictKey(key.loose, installed_versions())
    options = resolve_options(
        environment(),
        problem.strategy,
        problem.effort,
        problem.budget,
        problem.seed,
        False,
        problem.settings,
        False,
        "",
    )
    wanted = requirements(options, problem.seeds)
    found = KeyedCache(opened, key).hit(wanted, problem.space)
    hit = None if found is None else found.entry

    def decide(entry: Entry) -> str:
        if hit is not None:
            return "" if hit.name == entry.name else f"run {hit.run.id[:8]} goes before it"
        return shortfall(entry, wanted) or "its config was rejected, or is of no use here"

    return key, "", decide


def _state(entry: Entry) -> str:
    return "" if entry.finished else "it did not come to its end"
