"""The installed command in a process of its own, and a file of problems for it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "import sys; from autotune.cli import main; sys.exit(main())"]

PROBLEMS = """
import os
import time
import numpy as np
from autotune import (Budget, CallableEvaluator, Choice, EvaluatorError, Failed, Integer, PowerOfTwo, Problem,
                      SimulatedEvaluator, Space, Timed)

class Table:
    def __init__(self, delay_s=0.0, broken=False):
        self.delay_s, self.broken = delay_s, broken
    def outcome(self, config):
        time.sleep(self.delay_s)
        if self.broken or config["stages"] == 7:
            kind = "compile_error" if config["stages"] % 2 else "out_of_memory"
            return Failed(kind, "too many stages", compile_s=0.2)
        return Timed((1 + abs(config["BLOCK"] - 32) / 16 + config["stages"] / 8,), compile_s=0.5, run_s=0.1)
    def samples(self, config):
        outcome = self.outcome(config)
        return np.array([] if isinstance(outcome, Failed) else [outcome.time_ms * (1 + i / 100) for i in range(-2, 3)])

space = Space({"BLOCK": PowerOfTwo(1, 256), "stages": Integer(1, 9), "order": Choice(["ij", None])},
              default={"BLOCK": 1, "stages": 9, "order": None})

def simulated(table, space=space, **options):
    return Problem(space, SimulatedEvaluator(table, compile_workers=3, noise="resample"), "random_search",
                   budget=Budget(evaluations=50), **options)

problem = simulated(Table())
slow = simulated(Table(delay_s=0.004))
broken = simulated(Table(broken=True))
other = simulated(Table(), Space({"BLOCK": PowerOfTwo(1, 128), "stages": Integer(1, 9)}))
tuned = simulated(Table(), settings={"count": 12, "verify_rounds": 4})

def even(BLOCK):
    return BLOCK != 64

guarded = simulated(Table(), Space(dict(space.parameters), [even], default=space.default))

def build(config):
    print("build prints")
    os.write(1, b"as C would\\n")
    wait = config["wait_ms"] / 1000
    def kernel():
        print("the kernel prints")
        time.sleep(wait)
    return kernel

sleepy = Space({"wait_ms": Choice([60, 90]), "lane": Integer(0, 40)}, default={"wait_ms": 90, "lane": 0})
brief = Space({"wait_ms": Integer(1, 3)}, default={"wait_ms": 3})
quick = dict(warmup_ms=0, target_ms=1, min_repeats=3, max_repeats=3)
real = Problem(sleepy, CallableEvaluator(build, **quick), "random_search")
here = Problem(brief, CallableEvaluator(build, isolation="in_process", **quick), "random_search")
class Absent(CallableEvaluator):
    def open(self, space, past=()):
        raise EvaluatorError("there is no device; plug one in")

absent = Problem(brief, Absent(build))

def no_arguments():
    raise RuntimeError("no data")

unfed = Problem(brief, CallableEvaluator(build, make_args=no_arguments))
no_evaluator = Problem(brief, 3)
no_value = Problem(brief, CallableEvaluator)
no_space = Problem({"x": 1}, CallableEvaluator(build))
no_budget = Problem(brief, CallableEvaluator(build), budget="100")
print("the file prints")
"""


def autotune(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """The installed command, in a process of its own."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, **options)


@contextmanager
def started(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background may inherit deafness
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_in(journal: Path, ready: Callable[[str], bool]) -> None:
    until = time.monotonic() + 30
    while not (journal.exists() and ready(journal.read_text())):
        assert time.monotonic() < until, "the journal never got there"
        time.sleep(0.002)


def found(stdout: str) -> dict[str, Any]:
    """The JSON on stdout without the journal's name; one object on one line and nothing else."""
    assert stdout.count("\n") == 1
    result: dict[str, Any] = json.loads(stdout)
    result.pop("journal", None)
    return result
