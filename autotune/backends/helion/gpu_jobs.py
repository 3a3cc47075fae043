"""What Helion's benchmark process is asked to do: load a config once, check its answer, time it.

Helion's own jobs load it once for the check and once more for the timing, and time it however slow it turns out to be.
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

REP_MS, FIRST_MS = 50, 10
"""Timed runs add up to this, as in Helion; to less where the config is no rival of the best one."""

RIVAL = 1.2
"""How many times as slow as the best one a config may seem and is timed in full."""

PROBES = 2
"""Runs after which a config that is far behind is given up."""


@dataclass(frozen=True)
class JobResult:
    """What came of it: samples in milliseconds, or why there are none. cut: it was too slow to go on with.

    began: by time.perf_counter(), of whichever process it was.
    """

    times_ms: tuple[float, ...] = ()
    run_s: float = 0.0
    cut: bool = False
    failure: FailureKind | None = None
    message: str = ""
    began: float = 0.0


@dataclass(frozen=True)
class BaselineCheck:
    """The expected answer, and how close to it an answer must be."""

    baseline_path: str
    atol: float
    rtol: float
    scale_atol: bool


@dataclass(frozen=True)
class MeasureJob:
    """One config: its generated module, the file of its arguments, what it must answer (None: anything).

    cutoff_ms: it is given up where its first runs take longer. best_ms: the best time so far; None: not known.
    """

    fn_spec: SerializedCompiledFunction
    args_path: str
    check: BaselineCheck | None
    cutoff_ms: float | None = None
    best_ms: float | None = None
    probe_long_kernel: bool = False

    def __call__(self) -> JobResult:
        began = time.perf_counter()
        with capture_output():
            fn = _load_compiled_fn_for_worker(self.fn_spec)
            try:
                return replace(self._measured(fn, began), began=began)
            except Exception as error:
                error.__traceback__ = None  # it holds on to the tensors of the call
                if match_unrecoverable_runtime_error(error):
                    raise  # the process is spoilt, which whoever sent the job must see
                text = f"{type(error).__name__}: {error}"
                return JobResult((), time.perf_counter() - began, False, _kind(error), text, began)
            finally:
                _unload_compiled_fn(fn)

    def _measured(self, fn: Callable[..., Any], began: float) -> JobResult:
        call = functools.partial(fn, *load_trusted_kernel_args(self.args_path))
        output = call()
        synchronize_device()
        wrong = None if self.check is None else _mismatch(output, self.check)
        del output
        if wrong is not None:
            return JobResult((), time.perf_counter() - began, False, "wrong_answer", wrong)
        bench = functools.partial(_timer(), call, return_mode="all", pre_warmed=True)
        if self.cutoff_ms is not None:
            first = _samples(bench(fixed_repetitions=PROBES))
            if min(first) > self.cutoff_ms:
                return JobResult(first, time.perf_counter() - began, True)
        times = self._times(functools.partial(bench, warmup=1, probe_long_kernel=self.probe_long_kernel))
        return JobResult(condense(times), time.perf_counter() - began)

    def _times(self, timed: Callable[..., Any]) -> tuple[float, ...]:
        if self.best_ms is None:
            return _samples(timed(rep=REP_MS))
        first = _samples(timed(rep=FIRST_MS))
        if median(first) > RIVAL * self.best_ms or sum(first) >= REP_MS:
            return first
        return (*first, *_samples(timed(rep=REP_MS - FIRST_MS)))


@dataclass(frozen=True)
class StartDevice:
    """Load the libraries, which unpickling this does, and initialise the device. settings: as for `LoadArguments`."""

    device: str
    settings: dict[str, str]

    def __call__(self) -> JobTimes:
        began = time.perf_counter()
        os.environ.update(self.settings)
        torch.empty(1, device=self.device)
        synchronize_device()  # by itself it would do nothing where the device has not been used yet
        importlib.import_module("torch._inductor.runtime.triton_helpers")  # as the code of every config does
        return JobTimes("device", began, time.perf_counter())


@dataclass(frozen=True)
class LoadArguments:
    """Load in advance what every config needs: the arguments and the expected answer.

    settings: what the environment says of Triton and Helion by now, above all where Triton's cache is: the process may
    have been started before that was known, and would compile everything itself.
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
        with suppress(Exception):  # whoever cannot check or time anything says so when it is to do so for a config
            assert_close(expected, expected, atol=0.0, rtol=0.0, scale_atol_by_expected_rms=True)
            _timer()(synchronize_device, return_mode="all", pre_warmed=True, fixed_repetitions=1)
        return JobTimes("arguments", began, time.perf_counter())


def _timer() -> Callable[..., Any]:
    """Helion's, by the GPU's events where there is one. Its first call loads what it needs."""
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
