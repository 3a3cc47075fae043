"""Helion's benchmark provider with compiles and measurements that the pipeline has made before Helion asks for them.

Helion goes on to filter, count, log and cache configs; it only no longer waits.
"""

import os
import time
from functools import partial
from math import inf
from statistics import median
from typing import Any

from helion.autotuner.base_search import PopulationBasedSearch
from helion.autotuner.benchmark_provider import LocalBenchmarkProvider
from helion.autotuner.precompile_future import PrecompileFuture, _serialize_compiled_fn

from autotune.backends.helion.gpu_jobs import BaselineCheck, JobResult, LoadArguments, MeasureJob, StartDevice
from autotune.backends.helion.gpu_process import GpuProcess
from autotune.shell.timeline import SEARCH, PhaseTimeline

_RELEVANT = ("TRITON_", "HELION_", "TORCH", "CUDA_", "NVIDIA_", "HIP_", "ROCR_")
"""The beginnings of the names of environment variables that compilers and kernels may depend on."""


class PipelineProvider(LocalBenchmarkProvider):  # type: ignore[misc]  # Helion asks for its own base
    """futures, results: compiles and measurements by config, each used once. Without one Helion makes its own.

    timeline: receives the spans of each process.
    """

    def __init__(self, timeline: PhaseTimeline | None = None, **context: Any) -> None:
        self.timeline = timeline or PhaseTimeline()
        self.timeline.begin()
        self.futures: dict[Any, PrecompileFuture] = {}
        self.results: dict[Any, JobResult] = {}
        settings = context["settings"]
        wanted = settings.autotune_precompile == "fork" and settings.autotune_benchmark_subprocess
        # The process loads its libraries while Helion makes its baseline.
        first = StartDevice(str(context["kernel"].env.device), relevant_environment())
        self.gpu_process = GpuProcess(first, self.timeline, context["log"].warning) if wanted else None
        try:
            super().__init__(**context)
        except BaseException:
            self.close_gpu_process()
            raise

    def setup(self) -> None:
        """Write the files of the other processes; the GPU process loads them while the space is made."""
        super().setup()
        if self.can_overlap:
            self.prepare_gpu_process()

    def prepare_gpu_process(self) -> None:
        """Let the GPU process load arguments and baseline, and keep a spare one if they fit on the device twice."""
        assert self.gpu_process is not None
        self.gpu_process.prepare(self.load_job(), self.private_argument_copies_affordable(2))

    def _compute_baseline(self) -> Any:
        began = time.perf_counter()
        found = super()._compute_baseline()
        self.timeline.add_span(SEARCH, "baseline", began)
        return found

    @property
    def can_overlap(self) -> bool:
        """Whether compiling and timing can overlap: compiles in forks, checks and timings in a process of their own."""
        settings = self.settings
        return bool(
            self.gpu_process is not None
            and settings.autotune_precompile == "fork"
            and self._precompile_args_path is not None
            and self._subprocess_benchmark_enabled()
            and not self._subprocess_benchmark_uses_wall_clock()
            and (not settings.autotune_accuracy_check or self._precompile_baseline_path is not None)
        )

    def close_gpu_process(self) -> None:
        if self.gpu_process is not None:
            self.gpu_process.close()

    def cleanup(self) -> None:
        self.close_gpu_process()
        super().cleanup()

    def create_compile(self, config: Any, fn: Any) -> PrecompileFuture:
        """Helion's record of a compile of this config, not started yet."""
        return super()._create_precompile_future(config, fn)

    def job(self, fn: Any, cutoff_ms: float | None, near_ms: float | None) -> MeasureJob | None:
        """The job of the GPU process for a config; None if the config cannot be sent there.

        cutoff_ms, near_ms: see `MeasureJob`.
        """
        try:
            spec = _serialize_compiled_fn(fn)
        except RuntimeError:
            return None
        baseline = self._precompile_baseline_path
        check = None
        if self.settings.autotune_accuracy_check and baseline is not None:
            check = BaselineCheck(
                baseline_path=baseline,
                atol=self._effective_atol,
                rtol=self._effective_rtol,
                scale_atol=self._scale_atol,
            )
        long = self._probe_long_kernel()
        return MeasureJob(
            fn_spec=spec,
            args_path=self._precompile_args_path or "",
            check=check,
            cutoff_ms=cutoff_ms,
            near_ms=near_ms,
            probe_long_kernel=long,
        )

    def load_job(self) -> LoadArguments:
        """The first job of a GPU process: load the arguments and the baseline."""
        return LoadArguments(self._precompile_args_path or "", self._precompile_baseline_path, relevant_environment())

    def _create_precompile_future(self, config: Any, fn: Any) -> PrecompileFuture:
        return self.futures.pop(config, None) or super()._create_precompile_future(config, fn)

    def _benchmark_function(self, config: Any, fn: Any, *, effective_source_hash: str | None = None) -> float:
        found = self.results.pop(config, None)
        if found is None:
            known = {} if effective_source_hash is None else {"effective_source_hash": effective_source_hash}
            return float(super()._benchmark_function(config, fn, **known))
        self._autotune_metrics.num_configs_tested += 1
        match found.failure:
            case None:
                return median(found.times_ms)
            case "wrong_answer":
                self._record_accuracy_failure(config)
            case "run_timeout":
                self._record_worker_failure(config, "timeout")
            case "crash":
                self._record_worker_failure(config, "error")
            case _:
                self._record_compile_failure(config)
        return inf


def relevant_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_RELEVANT)}


def use_pipeline_provider(search: PopulationBasedSearch, timeline: PhaseTimeline) -> None:
    """Give this provider to a search that has Helion's usual one."""
    if search._benchmark_provider_cls is LocalBenchmarkProvider:
        search._benchmark_provider_cls = partial(PipelineProvider, timeline)
