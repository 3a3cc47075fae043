"""`autotune compile FILE[:NAME] --target sm_90`: compile a problem's configs, on a machine that need not have a GPU."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import typer

from autotune.backends.triton.evaluator import TritonEvaluator
from autotune.backends.triton.precompile import precompile
from autotune.backends.triton.resources import arch_of
from autotune.backends.triton.session_cache import MANIFEST, CompiledConfig
from autotune.cli import ExitCode
from autotune.cli.options import AsJson, ShowProgress, Target
from autotune.cli.output import note, print_json, print_labelled, print_table, stdout_for_results
from autotune.cli.problem_file import load_problem
from autotune.cli.results import format_counts
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.keys import fold, root
from autotune.core.space import Space

_MAX_WITHOUT_SAMPLE = 20_000
"""Configs that are compiled without --sample: at a second each on 16 cores, some twenty minutes."""

_MAX_SHOWN = 20
"""Configs that the table shows, slowest to compile first; the manifest has them all."""

_NOTE_EVERY = 100
_FIGURES = ("shared_bytes", "registers", "spill_bytes")


def compile(
    target: Target,
    architecture: Annotated[str, typer.Option("--target", metavar="ARCH", help="What to compile for, such as sm_90.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the binaries go; without it FILE-ARCH here.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Compile N configs drawn at random, not all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The seed of the sample.")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", help="How many compile at a time.")] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> ExitCode:
    """Compile a Triton kernel's configs; no GPU is needed.

    The problem has a TritonEvaluator. The needs of the binaries are printed, and the folder can be used with a GPU.
    """
    arch_of(architecture)
    with stdout_for_results():
        problem = load_problem(target)
        evaluator = problem.evaluator
        if not isinstance(evaluator, TritonEvaluator):
            raise PlanError(
                f"{target} has an evaluator of type {type(evaluator).__name__}, and TritonEvaluator alone compiles"
                " without a GPU; give the problem one"
            )
        if workers is not None:
            evaluator = replace(evaluator, compile_workers=workers)
        configs = _choose_configs(problem.space, sample, seed)
        folder = out or Path(f"{Path(target.partition(':')[0]).stem}-{architecture}")
        done: list[CompiledConfig] = []
        for one in precompile(problem.space, evaluator, configs, architecture, folder):
            done.append(one)
            if len(done) % _NOTE_EVERY == 0:
                note(f"compiled {len(done)} of {len(configs)}", progress)
    if as_json:
        print_json({"target": architecture, "folder": str(folder), "configs": [msgspec.to_builtins(d) for d in done]})
    else:
        _print_compiled(done, architecture, folder, problem.space)
    return ExitCode.DONE if any(one.verdict == "compiled" for one in done) else ExitCode.NOTHING_TIMED


def _choose_configs(space: Space, sample: int | None, seed: int) -> list[Config]:
    """All configs, or a sample with the default in it."""
    if sample is not None:
        if sample < 1:
            raise PlanError(f"--sample {sample}: give a number of at least 1")
        drawn = space.decode(space.sample_distinct(fold(root(seed), "compile"), sample))
        first = [] if space.default is None else [space.default]
        return list(dict.fromkeys([*first, *drawn]))[: max(sample, len(first))]
    count = space.count()
    if count is None or count > _MAX_WITHOUT_SAMPLE:
        many = "too many to count" if count is None else f"{count:,}"
        raise PlanError(f"the space has {many} valid configs; compile some of them with --sample 200, for example")
    return space.enumerate()


def _print_compiled(done: list[CompiledConfig], architecture: str, folder: Path, space: Space) -> None:
    names = list(space.names)
    ranked = sorted(done, key=lambda one: -one.seconds)
    rows = [
        [*(_format_value(one.config[name]) for name in names), *_format_figures(one), one.verdict]
        for one in ranked[:_MAX_SHOWN]
    ]
    print_table([*names, "seconds", "shared", "registers", "spilled", "verdict"], rows)
    if len(ranked) > _MAX_SHOWN:
        print(f"({len(ranked) - _MAX_SHOWN:,} more that compiled faster; {folder / MANIFEST} has them all)")
    compiled = [one.seconds for one in done if one.verdict == "compiled"]
    print()
    print_labelled(
        [
            ("target", architecture),
            ("configs", format_counts(dict(Counter(one.verdict for one in done).most_common()))),
            ("seconds each", f"{median(compiled):.3g}, at most {max(compiled):.3g}" if compiled else "-"),
            ("folder", str(folder)),
        ]
    )


def _format_value(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _format_figures(one: CompiledConfig) -> list[str]:
    return [f"{one.seconds:.2f}", *(str(one.details.get(name, "-")) for name in _FIGURES)]
