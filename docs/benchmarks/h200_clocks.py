"""Why a kernel is slower in a long comparison than in a short measurement, and what a search waits for; for h200.py.

A GPU lowers its clock when it would take more power than it may. A burst of a few milliseconds is over before that, so
a space that is recorded in bursts and a comparison that goes on for seconds need not agree; but configs that are timed
in the same way can be compared with one another.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from h200_common import arguments_of, evaluator_of, machine, rehearsing

from autotune import Config
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.timing import CudaDevice, HostDevice
from autotune.studies.recordings import Recording, load_recording

BURST, BURSTS = 25, 8
"""GpuQueue in a burst, which is what a config of a recording gets, and how many bursts."""
ROUND = 20
SUSTAINED_S, SHORT_S = 3.0, 1.0


class Card:
    """The kernel with the recording's best config, on the device, and what the driver's library tells of that."""

    def __init__(self, kernel: str) -> None:
        if rehearsing():
            os.environ["TRITON_INTERPRET"] = "1"
        import torch

        torch.manual_seed(0)
        evaluator = evaluator_of(kernel)
        recording = load_recording(f"builtin:{kernel}")
        self.recorded_ms = recording.optimum_ms
        self.config = fastest(recording)
        self.named: dict[str, Any] = arguments_of(kernel)()
        self._launch = Launch(evaluator.kernel).call(self.config, evaluator.grid)
        self.device = HostDevice() if rehearsing() else CudaDevice(os.environ.get("CUDA_VISIBLE_DEVICES") or "0")
        self._first = 3 if rehearsing() else None

    def time(self, count: int, cold: bool = True) -> list[float]:
        """Milliseconds of so many runs in a row, timed as the evaluator does."""
        return self.device.time(lambda _: self._launch(self.named), min(count, self._first or count), None, cold)

    def told(self) -> dict[str, Any]:
        """Clock, power and what holds the clock down, just now."""
        found: dict[str, Any] = dict(self.device.gauges())
        nvml, handle = getattr(self.device, "_nvml", None), getattr(self.device, "_handle", None)
        if nvml is not None:
            asked: dict[str, Callable[[], Any]] = {
                "watts": lambda: round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
                "held_down_by": lambda: hex(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
            }
            for name, ask in asked.items():
                try:
                    found[name] = ask()
                except Exception as error:
                    found[name] = type(error).__name__
        return found


def fastest(recording: Recording) -> Config:
    """Of those that were timed: what failed has no time, and comes last."""
    return recording.config(int(recording.time_ms.argsort()[0]))


def clocked(kernel: str) -> dict[str, Any]:
    """Median times and gauges: in bursts after a pause, at half load, and without a pause, each also on zeros."""
    card = Card(kernel)
    card.time(3)
    long_s, short_s = (0.2, 0.2) if rehearsing() else (SUSTAINED_S, SHORT_S)
    found: dict[str, Any] = {
        "recorded_ms": card.recorded_ms, "config": dict(card.config),
        "bursts after 100 ms": bursts(card, 0.1), "bursts after 6 ms": bursts(card, 0.006, 60),
        "sustained": sustained(card, long_s), "bursts again": bursts(card, 0.1),
        "sustained, cache not cleared": sustained(card, short_s, cold=False),
    }  # fmt: skip
    time.sleep(0.5)
    for value in card.named.values():
        if hasattr(value, "zero_"):
            value.zero_()
    found["sustained, on zeros"] = sustained(card, short_s)
    return {**found, **machine()}


def bursts(card: Card, pause_s: float, count: int = BURSTS) -> dict[str, Any]:
    """Each after a pause, as when something else is done between configs."""
    times = []
    for _ in range(count):
        time.sleep(pause_s)
        times.append(median(card.time(BURST)))
    return {"ms": [round(min(times), 4), round(median(times), 4), round(max(times), 4)], **card.told()}


def sustained(card: Card, seconds: float, cold: bool = True) -> list[dict[str, Any]]:
    """Rounds without a pause, as in a comparison; what it was like from quarter to quarter of the time."""
    quarters: list[dict[str, Any]] = []
    for _ in range(4):
        times, began = [], time.monotonic()
        while time.monotonic() - began < seconds / 4:
            times.append(median(card.time(ROUND, cold)))
        quarters.append({"ms": round(median(times), 4), **card.told()})
    return quarters


PHASES = """
import time, sys
began = last = time.perf_counter()
def lap(name):
    global last
    now = time.perf_counter()
    print(name, round(now - last, 2))
    last = now
from autotune.backends.triton import arguments, compile_worker, compiler, fake_driver
from autotune.backends.triton.meta_tensors import without_memory
from autotune.backends.triton.kernel import Launch
lap("our_modules")
import triton
lap("triton")
hashing = compiler.start_hashing_triton()
import torch
lap("torch")
fake_driver.install("sm_90")
import importlib
example = importlib.import_module(sys.argv[1])
lap("example")
with without_memory():
    given, launch = arguments.ArgumentSet(example.arguments), Launch(example.evaluator.kernel)
    made = arguments.make_arguments(given, launch, example.space.names)
arguments.make_stand_ins(arguments.describe_arguments(made))
lap("arguments")
hashing.join()
lap("rest_of_sums")
compiler.warm_up_compiler()
lap("warm_up_compiler")
print("whole", round(time.perf_counter() - began, 2))
"""


def started(kernel: str) -> dict[str, Any]:
    """Seconds of what a process does before it can compile, once and with all files in memory; and of nvidia-smi."""
    path = os.pathsep.join([p for p in sys.path if p])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    phases: list[dict[str, float]] = []
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", PHASES, kernel], env=environment, capture_output=True, text=True, timeout=60
        )
        if ran.returncode:
            return {"error": ran.stderr[-500:]}
        phases.append({name: float(text) for name, text in map(str.split, ran.stdout.splitlines())})
    began = time.monotonic()
    try:
        subprocess.run(["nvidia-smi", "--query-gpu=index,uuid,compute_cap", "--format=csv,noheader"],
                       capture_output=True, timeout=30)  # fmt: skip
        tool: float | None = round(time.monotonic() - began, 2)
    except OSError:
        tool = None
    return {"phases_s": phases, "nvidia_smi_s": tool, **machine()}
