"""Helion's benchmark provider, handed compiles and measurements that were made before it asks for them.

It goes on to filter, count, log and remember as ever: only the waiting is over by then.
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

SETTINGS = ("TRITON_", "HELION_", "TORCH", "CUDA_", "NVIDIA_", "HIP_", "ROCR_")
"""What the names of environment variables begin with that compilers and kernels may depend on."""


class PipelineProvider(LocalBenchmarkProvider):  # type: ignore[misc]  # Helion asks for its own base
    """futures, measured: by the config that they are for, each taken once. What is not there is made as Helion does.

    record: when each process did what.
    """

    def __init__(self, record: PhaseTimeline | None = None, **context: Any) -> None:
        self.record = record or PhaseTimeline()
        self.record.begin()
        self.futures: dict[Any, PrecompileFuture] = {}
        self.measured: dict[Any, JobResult] = {}
        settings = context["settings"]
        wanted = settings.autotune_precompile == "fork" and settings.autotune_benchmark_subprocess
        # It loads its libraries while Helion makes its baseline.
        first = StartDevice(str(context["kernel"].env.device), relevant_environment())
        self.station = GpuProcess(first, self.record, context["log"].warning) if wanted else None
        try:
            super().__init__(**context)
        except BaseException:
            self.leave_station()
            raise

    def setup(self) -> None:
        """Write what other processes need to know; the GPU's reads it while the space is made."""
        super().setup()
        if self.apart:
            self.warm_station()

    def warm_station(self) -> None:
        """Let the process of the GPU load arguments and baseline, and keep a second one where they fit twice."""
        assert self.station is not None
        self.station.prepare(self.warm_up(), self.private_argument_copies_affordable(2))

    def _compute_baseline(self) -> Any:
        began = time.perf_counter()
        found = super()._compute_baseline()
        self.record.note(SEARCH, "baseline", began)
        return found

    @property
    def apart(self) -> bool:
        """Whether configs are compiled in forks, checked and timed in a process of their own: only that can overlap."""
        settings = self.settings
        return bool(
            self.station is not None
            and settings.autotune_precompile == "fork"
            and self._precompile_args_path is not None
            and self._subprocess_benchmark_enabled()
            and not self._subprocess_benchmark_uses_wall_clock()
            and (not settings.autotune_accuracy_check or self._precompile_baseline_path is not None)
        )

    def leave_station(self) -> None:
        """End the processes that time configs."""
        if self.station is not None:
            self.station.close()

    def cleanup(self) -> None:
        """Release what Helion's provider holds, and these processes."""
        self.leave_station()
        super().cleanup()

    def compile_ahead(self, config: Any, fn: Any) -> PrecompileFuture:
        """The process that will compile this config, not started yet."""
        return super()._create_precompile_future(config, fn)

    def job(self, fn: Any, cutoff_ms: float | None, best_ms: float | None) -> MeasureJob | None:
        """What the benchmark process is to do; None where the config cannot be sent there."""
        try:
            spec = _serialize_compiled_fn(fn)
        except RuntimeError:
            return None
        baseline = self._precompile_baseline_path
        check = None
        if self.settings.autotune_accuracy_check and baseline is not None:
            check = BaselineCheck(baseline, self._effective_atol, self._effective_rtol, self._scale_atol)
        long = self._probe_long_kernel()
        return MeasureJob(spec, self._precompile_args_path or "", check, cutoff_ms, best_ms, long)

    def warm_up(self) -> LoadArguments:
        """What a benchmark process does before it is needed."""
        return LoadArguments(self._precompile_args_path or "", self._precompile_baseline_path, relevant_environment())

    def _create_precompile_future(self, config: Any, fn: Any) -> PrecompileFuture:
        return self.futures.pop(config, None) or super()._create_precompile_future(config, fn)

    def _benchmark_function(self, config: Any, fn: Any, *, effective_source_hash: str | None = None) -> float:
        found = self.measured.pop(config, None)
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
    """What the environment says by now of what compilers and kernels may depend on."""
    return {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}


def use_pipeline_provider(search: PopulationBasedSearch, record: PhaseTimeline) -> None:
    """Let a search that has Helion's usual provider have this one."""
    if search._benchmark_provider_cls is LocalBenchmarkProvider:
        search._benchmark_provider_cls = partial(PipelineProvider, record)
