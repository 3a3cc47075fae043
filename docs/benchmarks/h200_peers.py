"""The others, for h200.py: Helion's external API and @triton.autotune, on the kernels of docs/examples."""

import csv
import importlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h200 import problem_of

from autotune import Config, Problem, TritonEvaluator
from autotune.shell.evaluators.triton.launching import Launch
from autotune.shell.evaluators.triton.stage import applied

ALGORITHM = "LFBOTreeSearch"
LOG = Path(tempfile.gettempdir()) / "autotune-h200-helion"
NAMES = Path(tempfile.gettempdir()) / "autotune-h200-helion.json"
SEED = 1


class Callables:
    """What Helion is given: inputs, a function for each config that returns its output, and the reference."""

    def __init__(self, kernel: str) -> None:
        import torch

        self.problem: Problem = problem_of(kernel)
        evaluator = self.problem.evaluator
        assert isinstance(evaluator, TritonEvaluator)
        self.evaluator = evaluator
        torch.manual_seed(0)
        self.named: dict[str, Any] = importlib.import_module(kernel).arguments()
        (self.output,) = evaluator.outputs
        self.inputs = [n for n, v in self.named.items() if isinstance(v, torch.Tensor) and n != self.output]
        self.args = tuple(self.named[name] for name in self.inputs)

    def function(self, config: Config) -> Callable[..., Any]:
        """The kernel with this config, of the inputs alone."""
        import torch

        launch = Launch(self.evaluator.kernel).call(config, self.evaluator.grid)
        make = torch.zeros_like if self.evaluator.reset_to_zero else torch.empty_like

        def call(*inputs: Any) -> Any:
            output = make(self.named[self.output])
            launch({**self.named, **dict(zip(self.inputs, inputs, strict=True)), self.output: output})
            return output

        return call

    def reference(self, *inputs: Any) -> Any:
        """What must come out."""
        return applied(self.evaluator.reference, {**self.named, **dict(zip(self.inputs, inputs, strict=True))})


def helion(kernel: str, seconds: float) -> dict[str, Any]:
    """Helion's search as its external API runs it, with its own defaults."""
    began = time.monotonic()
    patched()
    import torch  # noqa: F401
    from helion import Config as HelionConfig
    from helion.autotuner import search_algorithms
    from helion.autotuner.external import _ExternalKernelAdapter, create_user_config_spec

    from autotune.integrations.peers.fragments import fields_of

    given = Callables(kernel)
    space = given.problem.space
    fields = fields_of(space)
    NAMES.write_text(json.dumps({name: field.name for name, field in fields.items()}))
    asked: list[Config] = []

    def compiled(theirs: Any) -> Callable[..., Any]:
        config = Config({field.name: field.decode(theirs.config[name]) for name, field in fields.items()})
        space.check(config, "Helion's config")
        asked.append(config)
        return given.function(config)

    default = space.default
    assert default is not None, "both begin with it"
    first = HelionConfig.from_dict({name: field.encode(default[field.name]) for name, field in fields.items()})
    # This is helion.autotuner.autotune(…), taken apart to read its counters afterwards.
    adapter = _ExternalKernelAdapter(
        create_user_config_spec({name: field.fragment for name, field in fields.items()}), compiled, given.args,
        baseline_fn=lambda *inputs: given.reference(*inputs), autotune_budget_seconds=int(seconds), autotune_random_seed=SEED,
        autotune_log=str(LOG), autotune_baseline_rtol=5e-2, autotune_baseline_atol=1.0, autotune_progress_bar=False,
        autotune_ignore_errors=True, autotune_seed_configs=[first],
    )  # fmt: skip
    search = search_algorithms[ALGORITHM](adapter, given.args)
    ready = time.monotonic()
    best = search.autotune()
    wall = time.monotonic() - ready
    metrics = search._autotune_metrics
    pick = Config({field.name: field.decode(best.config[name]) for name, field in fields.items()})
    return {
        "start_s": round(ready - began, 1), "wall_s": round(wall, 1), "pick": dict(pick),
        "pick_ms": metrics.best_perf_ms, "evaluations": metrics.num_configs_tested, "asked_for": len(asked),
        "compile_failures": metrics.num_compile_failures, "accuracy_failures": metrics.num_accuracy_failures,
        "generations": metrics.num_generations, "configs_per_s": round(metrics.num_configs_tested / wall, 3),
    }  # fmt: skip


def patched() -> None:
    """Helion imports a name that torch 2.11 does not have yet."""
    import torch._inductor.runtime.triton_compat as compat

    if not hasattr(compat, "IntelGPUError"):
        compat.IntelGPUError = type("IntelGPUError", (RuntimeError,), {})


def salvaged() -> dict[str, Any]:
    """What Helion's own log says of a run that had to be killed."""
    logs = sorted(LOG.parent.glob(LOG.name + "*.csv"))
    if not logs:
        return {}
    rows = list(csv.DictReader(logs[-1].open()))
    timed = [row for row in rows if row.get("perf_ms")]
    tested = len({row.get("config_id") or row.get("config") for row in rows})
    best = min(timed, key=lambda row: float(row["perf_ms"]), default=None)
    return {
        "evaluations": tested,
        "best_seen_ms": best and float(best["perf_ms"]),
        "best_seen": best and best.get("config"),
    }


USUAL = [
    (128, 256, 64, 8, 3, 8), (64, 256, 32, 8, 4, 4), (128, 128, 32, 8, 4, 4), (128, 64, 32, 8, 4, 4),
    (64, 128, 32, 8, 4, 4), (128, 32, 32, 8, 4, 4), (64, 32, 32, 8, 5, 2), (32, 64, 32, 8, 5, 2),
    (128, 256, 128, 8, 3, 8), (256, 128, 128, 8, 3, 8), (256, 64, 128, 8, 4, 4), (64, 256, 128, 8, 4, 4),
    (128, 128, 128, 8, 4, 4), (128, 64, 64, 8, 4, 4), (64, 128, 64, 8, 4, 4), (128, 32, 64, 8, 4, 4),
    (128, 128, 64, 8, 3, 4), (128, 128, 64, 8, 4, 8), (256, 128, 64, 8, 3, 8), (64, 64, 64, 8, 4, 4),
]  # fmt: skip
"""BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, num_stages, num_warps: sizes as Triton's tutorials list them for matmuls."""


def triton_autotune() -> dict[str, Any]:
    """@triton.autotune's first call, with an empty cache, and its pick."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        import matmul
        import torch
        import triton

        names = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M")
        configs = [
            triton.Config(dict(zip(names, sizes, strict=True)), num_stages=stages, num_warps=warps)
            for *sizes, stages, warps in USUAL
        ]
        tuner = triton.autotune(configs=configs, key=["M", "N", "K"])(matmul.matmul)
        named = matmul.arguments()
        torch.cuda.synchronize()
        began = time.monotonic()
        tuner[matmul.grid](**named)
        torch.cuda.synchronize()
        wall = time.monotonic() - began
    best = tuner.best_config
    pick = {**best.kwargs, "num_warps": best.num_warps, "num_stages": best.num_stages}
    times = {str(config): time for config, time in tuner.configs_timings.items()}
    return {
        "wall_s": round(wall, 2), "evaluations": len(USUAL), "s_per_config": round(wall / len(USUAL), 3), "pick": pick,
        "pick_ms": min(t[0] if isinstance(t, list | tuple) else t for t in times.values()),
    }  # fmt: skip
