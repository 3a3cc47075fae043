"""Compile configs on a machine without a GPU, into a folder from which a machine with one takes the binaries."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from autotune.backends.triton.evaluator import TritonEvaluator
from autotune.backends.triton.session_cache import MANIFEST, CompiledConfig, Manifest, relocate_binaries
from autotune.core.config import Config
from autotune.core.errors import EvaluatorError
from autotune.core.outcomes import Failed, Outcome, Trial
from autotune.core.search.messages import Limits, Observed
from autotune.core.space import Space
from autotune.shell.files import replace_file


def precompile(
    space: Space, evaluator: TritonEvaluator, configs: Sequence[Config], target: str, folder: Path
) -> Iterator[CompiledConfig]:
    """Compile these configs for `target`, and yield each as it is done; the manifest is written at the end.

    Raises EvaluatorError where the evaluator cannot compile without a GPU, or the folder cannot be made.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluatorError(f"{folder} cannot be made ({error.strerror}); name a folder that can") from None
    relocate_binaries(folder)
    done: list[CompiledConfig] = []
    with replace(evaluator, target=target, cache_dir=folder).open_compiler(space) as session:
        waiting = [Trial(i, config) for i, config in enumerate(configs)][::-1]
        while len(done) < len(configs):
            batch = [waiting.pop() for _ in range(min(session.room, len(waiting)))]
            if batch:
                session.submit(batch, Limits())
            for event in session.poll():
                assert isinstance(event, Observed), "nothing is compared here"
                done.append(_describe(configs[event.trial], event.outcome))
                yield done[-1]
    manifest = Manifest(target, str(folder), tuple(done))
    replace_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _describe(config: Config, outcome: Outcome) -> CompiledConfig:
    assert isinstance(outcome, Failed), "nothing is timed here"
    compiled = outcome.kind == "skipped"
    return CompiledConfig(
        config=dict(config),
        verdict="compiled" if compiled else outcome.kind,
        seconds=round(outcome.compile_s, 4),
        message="" if compiled else outcome.message,
        details=outcome.details,
    )
