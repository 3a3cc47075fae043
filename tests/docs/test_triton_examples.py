"""The Triton kernels of docs/examples: right by Triton's interpreter, on small problems of the same form."""

import json
import os
import subprocess
import sys

import pytest

from tests.support import DOCS

pytest.importorskip("triton")
pytest.importorskip("torch")

EXAMPLES = DOCS / "examples"

# Half precision in place of bfloat16, with whose products the interpreter cannot do; sizes that are no multiples where
# the kernel allows that.
CODE = """
import importlib, json, sys
from autotune import ArgumentSet, Config
from autotune.backends.triton import messages, timing
from autotune.backends.triton.gpu_worker import GpuBenchmark, TimingOptions
from autotune.backends.triton.timing import HostDevice
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.timing import WorkloadObjective
from autotune.backends.triton.prepared_arguments import CheckSpec
from autotune.shell.evaluators.checking import Tolerance

SMALL = {
    "matmul": dict(n=64, dtype="float16"),
    "splitk_matmul": dict(m=16, n=64, k=256, dtype="float16"),
    "attention": dict(heads=2, length=128, width=32, dtype="float16"),
    "rms_norm": dict(rows=37, n=700),
}
CONFIGS = {
    "matmul": [
        dict(BLOCK_M=32, BLOCK_N=32, BLOCK_K=16, GROUP_M=2), dict(BLOCK_M=32, BLOCK_N=64, BLOCK_K=64, GROUP_M=1),
    ],
    "splitk_matmul": [dict(BLOCK_N=32, BLOCK_K=32, SPLIT_K=4), dict(BLOCK_N=16, BLOCK_K=64, SPLIT_K=3)],
    "attention": [
        dict(BLOCK_M=64, BLOCK_N=32, heads_first=a, longest_first=b) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))
    ],
    "rms_norm": [dict(BLOCK_ROWS=2, BLOCK=512, STEPS=4), dict(BLOCK_ROWS=4, BLOCK=1024, STEPS=2)],
}
said = {}
for name, configs in CONFIGS.items():
    example = importlib.import_module(name)
    tool = example.evaluator
    given = ArgumentSet(example.arguments(device="cpu", **SMALL[name]), name="small")
    spec = CheckSpec(
        reference=tool.reference, outputs=tuple(tool.outputs), restore_value=tuple(tool.restore_value),
        reset_to_zero=tuple(tool.reset_to_zero), names=example.space.names,
        tolerance=Tolerance(rtol=tool.rtol, atol=tool.atol, reduction=tool.reduction),
    )
    options = TimingOptions(timing.TimingSchedule(warmup_ms=0.0, target_ms=0.0, min_repeats=1, max_repeats=1))
    bench = GpuBenchmark(HostDevice(), Launch(tool.kernel), tool.grid, [given], spec, WorkloadObjective(), options)
    for config in configs:
        reply = bench.measure(messages.MeasureOrder(config=Config(**config).to_json(), cutoff_ms=None, budget_s=60.0))
        said[f"{name} {config}"] = "" if isinstance(reply, messages.MeasureReply) else reply.failed.message
print(json.dumps(said))
"""


def test_the_kernels_of_the_examples_are_right() -> None:
    folders = os.pathsep.join([str(EXAMPLES), *sys.path])
    environment = {**os.environ, "PYTHONPATH": folders, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert len(said) == 10
    assert {config: message for config, message in said.items() if message} == {}
