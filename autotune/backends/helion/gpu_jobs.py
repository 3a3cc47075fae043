"""Jobs of Helion's benchmark process: load a config, check its output and time it; and before that, start and load.

Helion's own jobs load a config twice, for the check and for the timing, and time it in full however slow it is.
"""

import functools
import importlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from helion.autotuner.accuracy import assert_close
from helion.autotuner.benchmark_job import _load_compiled_fn_for_worker, _load_trusted_baseline_output
from helion.autotuner.benchmarking import do_bench, do_bench_generic, synchronize_device
from helion.autotuner.kernel_args import load_trusted_kernel_args
from helion.autotuner.logger import capture_output, match_unrecoverable_runtime_error
from helion.autotuner.precompile_future import SerializedCompiledFunction, _unload_compiled_fn

from autotune.backends.triton.timing import condense
from autotune.core.outcomes import FailureKind
from autotune.shell.timeline import JobTimes

_REP_MS, _FIRST_MS = 50, 10
"""Milliseconds that the timed runs add up to, as in Helion, and after which a config that is not near the best
stops."""

_PROBES = 2
"""Runs after which a config past the cut-off stops."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a `MeasureJob`: samples in milliseconds, or a failure. cut: past the cut-off.

    run_s: seconds of the job. began: by time.perf_counter(), one clock for all processes.
    """

    times_ms: tuple[float, ...] = ()
    run_s: float = 0.0
    cut: bool = False
    failure: FailureKind | None = None
    message: str = ""
    began: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BaselineCheck:
    """The file of the expected output, and how near an output must be to it: Helion's tolerances."""

    baseline_path: str
    atol: float
    rtol: float
    scale_atol: bool


@dataclass(frozen=True, kw_only=True)
class MeasureJob:
    """Check and time one config. fn_spec: its generated module; args_path: the file of the arguments; check: None: no
    check.

    cutoff_ms, near_ms: limits of the search: a config whose first runs take longer is cut off, or is timed with a few
    runs only. probe_long_kernel: as in Helion.
    """

    fn_spec: SerializedCompiledFunction
    args_path: str
    check: BaselineCheck | None
    cutoff_ms: float | None = None
    near_ms: float | None = None
    probe_long_kernel: bool = False

    def __call__(self) -> JobResult:
        began = time.perf_counter()
        with capture_output():
            fn = _load_compiled_fn_for_worker(self.fn_spec)
            try:
                return replace(self._measure(fn, began), began=began)
            except Exception as error:
                error.__traceback__ = None  # it refers to the tensors of the call
                if match_unrecoverable_runtime_error(error):
                    raise  # the process is unusable, as its parent must know
                text = f"{type(error).__name__}: {error}"
                seconds = time.perf_counter() - began
                return JobResult(run_s=seconds, failure=_kind(error), message=text, began=began)
            finally:
                _unload_compiled_fn(fn)

    def _measure(self, fn: Callable[..., Any], began: float) -> JobResult:
        call = functools.partial(fn, *load_trusted_kernel_args(self.args_path))
        output = call()
        synchronize_device()
        wrong = None if self.check is None else _mismatch(output, self.check)
        del output
        if wrong is not None:
            return JobResult(run_s=time.perf_counter() - began, failure="wrong_answer", message=wrong)
        bench = functools.partial(_timer(), call, return_mode="all", pre_warmed=True)
        if self.cutoff_ms is not None:
            first = _samples(bench(fixed_repetitions=_PROBES))
            if min(first) > self.cutoff_ms:
                return JobResult(times_ms=first, run_s=time.perf_counter() - began, cut=True)
        times = self._times(functools.partial(bench, warmup=1, probe_long_kernel=self.probe_long_kernel))
        return JobResult(times_ms=condense(times), run_s=time.perf_counter() - began)

    def _times(self, timed: Callable[..., Any]) -> tuple[float, ...]:
        if self.near_ms is None:
            return _samples(timed(rep=_REP_MS))
        first = _samples(timed(rep=_FIRST_MS))
        if median(first) > self.near_ms or sum(first) >= _REP_MS:
            return first
        return (*first, *_samples(timed(rep=_REP_MS - _FIRST_MS)))


@dataclass(frozen=True)
class StartDevice:
    """Load the libraries, which unpickling this does, and initialise the device. settings: as for `LoadArguments`."""

    device: str
    settings: dict[str, str]

    def __call__(self) -> JobTimes:
        began = time.perf_counter()
        os.environ.update(self.settings)
        torch.empty(1, device=self.device)
        synchronize_device()  # does nothing on a device that is not initialised, hence the tensor
        importlib.import_module("torch._inductor.runtime.triton_helpers")  # which the code of every config imports
        return JobTimes("device", began, time.perf_counter())


@dataclass(frozen=True)
class LoadArguments:
    """Load the arguments and the expected output, which every config needs.

    settings: the environment variables of Triton and Helion, above all the directory of Triton's cache: the process may
    have been started before they were set, and would compile everything itself.
    """

    args_path: str
    baseline_path: str | None
    settings: dict[str, str]

    def __call__(self) -> JobTimes:
        began = time.perf_counter()
        os.environ.update(self.settings)
        load_trusted_kernel_args(self.args_path)
        expected = None if self.baseline_path is None else _load_trusted_baseline_output(self.baseline_path)
        synchronize_device()
        with suppress(Exception):  # a process that cannot check or time says so at the first config
            assert_close(expected, expected, atol=0.0, rtol=0.0, scale_atol_by_expected_rms=True)
            _timer()(synchronize_device, return_mode="all", pre_warmed=True, fixed_repetitions=1)
        return JobTimes("arguments", began, time.perf_counter())


def _timer() -> Callable[..., Any]:
    """Helion's timer: by the GPU's events if there is a GPU. Its first call loads its libraries."""
    found: Callable[..., Any] = do_bench if torch.cuda.is_available() else do_bench_generic
    return found


def _mismatch(output: object, check: BaselineCheck) -> str | None:
    try:
        assert_close(
            output,
            _load_trusted_baseline_output(check.baseline_path),
            atol=check.atol,
            rtol=check.rtol,
            scale_atol_by_expected_rms=check.scale_atol,
        )
    except AssertionError as error:
        return str(error)
    return None


def _samples(found: Any) -> tuple[float, ...]:
    return tuple(map(float, found)) if isinstance(found, list | tuple) else (float(found),)


def _kind(error: Exception) -> FailureKind:
    return "out_of_memory" if type(error).__name__ in ("OutOfMemoryError", "OutOfResources") else "run_error"
