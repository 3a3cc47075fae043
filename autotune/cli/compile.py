"""`autotune compile FILE[:NAME] --target sm_90 --target gfx942`: compile configs where there need not be a GPU."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import typer

from autotune.backends.triton.evaluator import TritonEvaluator, check_names
from autotune.backends.triton.fake_driver import import_for
from autotune.backends.triton.precompile import precompile
from autotune.backends.triton.session_cache import MANIFEST, CompiledConfig
from autotune.backends.triton.targets import check_target
from autotune.cli import ExitCode
from autotune.cli.options import AsJson, ShowProgress, Target
from autotune.cli.output import note, print_json, print_labelled, stdout_for_results
from autotune.cli.problem_file import load_problem
from autotune.core.config import Config
from autotune.core.errors import PlanError
from autotune.core.keys import fold, root
from autotune.core.search.report import format_counts, format_value
from autotune.core.space import Space
from autotune.shell.tables import print_table

_MAX_WITHOUT_SAMPLE = 20_000
"""Configs that are compiled without --sample: at a second each on 16 cores, some twenty minutes."""

_MAX_SHOWN = 20
"""Configs that the table shows, slowest to compile first; the manifest has them all."""

_NOTE_EVERY = 100
_FIGURES = {"shared_bytes": "shared", "registers": "registers", "agprs": "AGPRs", "sgprs": "SGPRs",
            "spill_bytes": "spilled"}  # fmt: skip
"""The columns of the table, by the names of the details."""
_AMD_FIGURES = ("agprs", "sgprs")
"""Columns that only AMD's binaries have."""


def compile(
    target: Target,
    architectures: Annotated[
        list[str],
        typer.Option("--target", metavar="ARCH", help="What to compile for, such as sm_90 or gfx942; repeatable."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where the binaries go, in a folder for each ARCH if there are several; without it FILE-ARCH here.",
        ),
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
    names = list(dict.fromkeys(check_target(name).name for name in architectures))
    with stdout_for_results():
        problems = [_load_problem(target, name, workers) for name in names]
        made: list[_CompiledTarget] = []
        for name, (space, evaluator) in zip(names, problems, strict=True):
            configs = _choose_configs(space, sample, seed)
            folder = Path(f"{Path(target.partition(':')[0]).stem}-{name}") if out is None else out
            folder = folder / name if out is not None and len(names) > 1 else folder
            made.append(_CompiledTarget(target=name, folder=folder, space=space))
            for one in precompile(space, evaluator, configs, name, folder):
                made[-1].configs.append(one)
                if len(made[-1].configs) % _NOTE_EVERY == 0:
                    note(f"compiled {len(made[-1].configs)} of {len(configs)} for {name}", progress)
    if as_json:
        told = [one.as_json() for one in made]
        print_json(told[0] if len(told) == 1 else {"targets": told})
    else:
        for i, one_target in enumerate(made):
            print("\n" * (i > 0), end="")
            _print_compiled(one_target)
    return ExitCode.DONE if all(one.any_compiled for one in made) else ExitCode.NOTHING_TIMED


@dataclass(kw_only=True)
class _CompiledTarget:
    """The configs that were compiled for one target, the folder of their binaries, and the space."""

    target: str
    folder: Path
    space: Space
    configs: list[CompiledConfig] = field(default_factory=list)

    @property
    def any_compiled(self) -> bool:
        return any(one.verdict == "compiled" for one in self.configs)

    def as_json(self) -> dict[str, Any]:
        configs = [msgspec.to_builtins(one) for one in self.configs]
        return {"target": self.target, "folder": str(self.folder), "configs": configs}


def _load_problem(file: str, target: str, workers: int | None) -> tuple[Space, TritonEvaluator]:
    """The space and the evaluator, from the file executed as on a machine with a GPU of this target: it may ask."""
    with import_for(target):
        problem = load_problem(file)
    evaluator = problem.evaluator
    if not isinstance(evaluator, TritonEvaluator):
        raise PlanError(
            f"{file} has an evaluator of type {type(evaluator).__name__}, and TritonEvaluator alone compiles"
            " without a GPU; give the problem one"
        )
    check_names(evaluator, problem.space.names, target)
    return problem.space, evaluator if workers is None else replace(evaluator, compile_workers=workers)


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


def _print_compiled(made: _CompiledTarget) -> None:
    names = list(made.space.names)
    ranked = sorted(made.configs, key=lambda one: -one.seconds)
    figures = [one for one in _FIGURES if one not in _AMD_FIGURES or any(one in each.details for each in ranked)]
    rows = [
        [
            *(format_value(one.config[name]) for name in names),
            f"{one.seconds:.2f}",
            *(str(one.details.get(figure, "-")) for figure in figures),
            one.verdict,
        ]
        for one in ranked[:_MAX_SHOWN]
    ]
    print_table([*names, "seconds", *(_FIGURES[figure] for figure in figures), "verdict"], rows)
    if len(ranked) > _MAX_SHOWN:
        print(f"({len(ranked) - _MAX_SHOWN:,} more that compiled faster; {made.folder / MANIFEST} has them all)")
    compiled = [one.seconds for one in ranked if one.verdict == "compiled"]
    print()
    print_labelled(
        [
            ("target", made.target),
            ("configs", format_counts(dict(Counter(one.verdict for one in made.configs).most_common()))),
            ("seconds each", f"{median(compiled):.3g}, at most {max(compiled):.3g}" if compiled else "-"),
            ("folder", str(made.folder)),
        ]
    )
