"""The others, for h200.py: Helion's external API and @triton.autotune, on the kernels of docs/examples."""

import csv
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h200_common import arguments_of, machine, problem_of, rehearsing

from autotune import Config, Problem, TritonEvaluator
from autotune.backends.triton.arguments import call_with_names
from autotune.backends.triton.kernel import Launch

ALGORITHM = "LFBOTreeSearch"
LOG = Path(tempfile.gettempdir()) / f"autotune-h200-helion-{os.getpid()}"
SEED = 1
LATE_S = 45.0


class Callables:
    """What Helion is given: inputs, a function for each config that returns its output, and the reference."""

    def __init__(self, kernel: str) -> None:
        import torch

        self.problem: Problem = problem_of(kernel)
        evaluator = self.problem.evaluator
        assert isinstance(evaluator, TritonEvaluator)
        self.evaluator = evaluator
        torch.manual_seed(0)
        self.named: dict[str, Any] = arguments_of(kernel)()
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
        return call_with_names(self.evaluator.reference, {**self.named, **dict(zip(self.inputs, inputs, strict=True))})


def helion(kernel: str, seconds: float, late: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Helion's search as its external API runs it, with its own defaults.

    late: told the best that was seen if the search is not over LATE_S after its budget, and ends the process.
    """
    began = time.monotonic()
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="autotune-h200-")  # empty, as ours is
    if rehearsing():
        os.environ["TRITON_INTERPRET"] = "1"
    patched()
    from helion import Config as HelionConfig
    from helion.autotuner import search_algorithms
    from helion.autotuner.external import _ExternalKernelAdapter, create_user_config_spec

    from autotune.interop.peers.helion import parameter_fragments

    given = Callables(kernel)
    space = given.problem.space
    fields = parameter_fragments(space)
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
        baseline_fn=lambda *inputs: given.reference(*inputs),  # a bound method would be copied, tensors and all
        autotune_budget_seconds=int(seconds), autotune_random_seed=SEED,
        autotune_log=str(LOG), autotune_baseline_rtol=5e-2, autotune_baseline_atol=1.0, autotune_progress_bar=False,
        autotune_ignore_errors=True, autotune_seed_configs=[first], **without_a_gpu(),
    )  # fmt: skip
    search = search_algorithms[ALGORITHM](adapter, given.args)
    ready = time.monotonic()

    def give_up() -> None:
        tested, found = log()
        pick = found and {f.name: f.decode(found[1][n]) for n, f in fields.items()}
        late(
            {
                "wall_s": round(time.monotonic() - ready, 1), "evaluations": tested, "overdue": True, "pick": pick,
                "pick_ms": found and found[0], **machine(),
            }
        )  # fmt: skip

    watchdog = threading.Timer(seconds + LATE_S, give_up)
    watchdog.daemon = True
    watchdog.start()
    best = search.autotune()
    watchdog.cancel()
    wall = time.monotonic() - ready
    metrics = search._autotune_metrics
    pick = Config({field.name: field.decode(best.config[name]) for name, field in fields.items()})
    return {
        "start_s": round(ready - began, 1), "wall_s": round(wall, 1), "pick": dict(pick),
        "pick_ms": metrics.best_perf_ms, "evaluations": metrics.num_configs_tested, "asked_for": len(asked),
        "compile_failures": metrics.num_compile_failures, "accuracy_failures": metrics.num_accuracy_failures,
        "generations": metrics.num_generations, "configs_per_s": round(metrics.num_configs_tested / wall, 3),
        **machine(),
    }  # fmt: skip


def without_a_gpu() -> dict[str, Any]:
    """Settings for a rehearsal: everything in this process, by the wall clock."""
    if not rehearsing():
        return {}
    import torch
    from helion.autotuner import benchmark_provider
    from helion.autotuner.benchmarking import do_bench_generic
    from helion_h200 import timed_here

    benchmark_provider.do_bench = lambda fn, return_mode="median", **how: do_bench_generic(
        fn, warmup=1, rep=1, return_mode=return_mode
    )
    return {
        "device": torch.device("cpu"), "autotune_benchmark_subprocess": False, "autotune_benchmark_fn": timed_here,
    }  # fmt: skip


def patched() -> None:
    """Helion imports a name that torch 2.11 does not have yet."""
    import torch._inductor.runtime.triton_compat as compat

    if not hasattr(compat, "IntelGPUError"):
        compat.IntelGPUError = type("IntelGPUError", (RuntimeError,), {})


def log() -> tuple[int, tuple[float, dict[str, Any]] | None]:
    """From what Helion writes down as it goes: how many configs it has tried, and the fastest with its time."""
    path = LOG.with_name(LOG.name + ".csv")
    if not path.exists():
        return 0, None
    with path.open() as file:
        rows = list(csv.DictReader(file))
    timed = [row for row in rows if row["perf_ms"]]
    tried = len({row["config_id"] for row in rows})
    if not timed:
        return tried, None
    best = min(timed, key=lambda row: float(row["perf_ms"]))
    values = {
        name: text == "True" if text in ("True", "False") else int(text) for name, text in VALUE.findall(best["config"])
    }
    return tried, (float(best["perf_ms"]), values)


VALUE = re.compile(r"(p\d+)=(True|False|-?\d+)")


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
        named = arguments_of("matmul")()
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
