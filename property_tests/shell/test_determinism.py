"""Law 2 across processes: another hash seed, thread count, locale or instruction set gives the same journals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune import replay
from property_tests.one_run import evaluator_of
from property_tests.registry import INSTANCES, called

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = {
    "as it is": {},
    "one thread": {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "four threads": {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "LC_ALL": "C"},
    "no optional instructions": {
        "PYTHONHASHSEED": "77",
        "OMP_NUM_THREADS": "2",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR X86_V3 X86_V4",
        "TZ": "Asia/Kolkata",
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of journals for each environment, each written by a process of its own; two processes at a time."""
    made = {name: tmp_path_factory.mktemp("journals") for name in ENVIRONMENTS}
    waiting, running = list(ENVIRONMENTS), []
    while waiting or running:
        while waiting and len(running) < 2:
            name = waiting.pop(0)
            command = [sys.executable, "-W", "ignore", "-m", "property_tests.one_run", str(made[name])]
            environment = {**os.environ, **ENVIRONMENTS[name]}
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE))
        process = running.pop(0)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()
    return made


def event_lines(path):
    """All but the header, which tells the host; the checksums, which begin with it, left out."""
    return [line.partition(b'"event":')[2] for line in path.read_bytes().splitlines()[1:]]


def round_floats(line):
    """An event with its floats to 12 digits, without the digest of the result, which covers all bits."""

    def rounded(value):
        if isinstance(value, dict):
            return {name: rounded(one) for name, one in value.items() if name != "digest"}
        if isinstance(value, list):
            return [rounded(one) for one in value]
        return float(f"{value:.12g}") if isinstance(value, float) else value

    return rounded(json.loads(line[:-1]))


@pytest.mark.parametrize("name", list(ENVIRONMENTS)[1:])
@pytest.mark.parametrize("which", INSTANCES, ids=called)
def test_the_same_journal_in_another_process(which, name, folders):
    one, other = (event_lines(folders[each] / called(which)) for each in ("as it is", name))
    assert len(one) > 10
    if name == "no optional instructions" and "disturbed" in evaluator_of(which):
        # numpy's exp differs in the last bit between instruction sets, and with it the samples of the simulated device.
        one, other = list(map(round_floats, one)), list(map(round_floats, other))
    assert other == one


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("which", INSTANCES, ids=called)
def test_a_journal_of_another_process_replays_here(which, name, folders):
    found = replay(folders[name] / called(which))
    assert found.divergence is None, found.divergence
    assert found.checked > 3
