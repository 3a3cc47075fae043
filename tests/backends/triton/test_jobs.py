"""Configs that share a binary: which do, by Triton's own account, and that it is compiled once for all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autotune import Choice, Config, Failed, Space, Trial, TritonEvaluator
from autotune.backends.triton import messages
from autotune.backends.triton.jobs import Job, SharedBinaries, binary_key_of
from autotune.core.search.messages import Limits, Observed
from autotune.shell.timeline import read_timeline

pytest.importorskip("triton")
pytest.importorskip("torch")

from tests.backends.triton.kernels import add_grid, scaled, scaled_arguments

FACTORS: list[Any] = [1, 2, 3, 8, 16, 17, 32, 0, -16, 2**31, 2**40, 2**63, True, False]


def test_configs_are_said_to_share_a_binary_only_where_triton_agrees() -> None:
    """Triton's dispatcher, asked for each value of two arguments at run time, one of them not specialised."""
    code = """
import json, sys
from autotune.backends.triton import fake_driver
from tests.backends.triton.kernels import scaled, scaled_arguments
driver = fake_driver.install("sm_90")
hashes = []
for name in ("factor", "plain"):
    for value in json.loads(sys.argv[1]):
        given = {"factor": 3, "plain": 3, **{name: value}}
        scaled[(1,)](**scaled_arguments(), **given, BLOCK=256)
        hashes.append(driver.launched[-1].hash)
print(json.dumps(hashes))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    asked = [sys.executable, "-c", code, json.dumps(FACTORS)]
    ran = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    hashes = json.loads(ran.stdout)
    key = binary_key_of(scaled)
    keys = [
        key(Config({"factor": 3, "plain": 3, "BLOCK": 256, name: value}))
        for name in ("factor", "plain")
        for value in FACTORS
    ]
    for i, one in enumerate(keys):
        for j in range(i):
            assert one != keys[j] or hashes[i] == hashes[j], (FACTORS[i % len(FACTORS)], FACTORS[j % len(FACTORS)])
    special, plain = keys[: len(FACTORS)], keys[len(FACTORS) :]
    assert len({hash(k) for k in plain}) < len({hash(k) for k in special}) < len(FACTORS)
    assert special[1] == special[2]
    assert special[0] != special[1]
    assert plain[0] == plain[1] == plain[4]
    assert key(Config(factor=3, plain=3, BLOCK=256)) != key(Config(factor=3, plain=3, BLOCK=512))


def test_without_a_kernel_every_config_has_a_binary_of_its_own() -> None:
    key = binary_key_of(None)
    assert key(Config(a=2, b=3)) != key(Config(a=4, b=3))
    assert key(Config(a=1)) != key(Config(a=True))


def test_the_first_has_it_compiled_and_the_others_wait() -> None:
    jobs = [Job(Trial(i, Config(x=i % 2)), Limits()) for i in range(5)]
    binaries = SharedBinaries(lambda config: config["x"])
    assert [binaries.claim(job) for job in jobs] == [True, True, False, False, False]
    assert binaries.waiting == 3
    assert binaries.verdict(jobs[0]) is None
    compiled = messages.Compiled(1.0, ())
    assert binaries.settle(jobs[0], compiled) == [jobs[2], jobs[4]]
    assert binaries.waiting == 1
    assert binaries.verdict(jobs[4]) is compiled
    binaries.clear_waiting()
    assert binaries.waiting == 0
    assert binaries.claim(jobs[1])


def test_a_binary_is_compiled_once_and_its_failure_is_everybodys(tmp_path: Path) -> None:
    space = Space({"factor": Choice([2, 3, 5]), "plain": Choice([1, 16]), "BLOCK": Choice([128, 3])})
    tool = TritonEvaluator(
        scaled, scaled_arguments, grid=add_grid, target="sm_90", compile_workers=1, cache_dir=tmp_path, ahead=3,
        timeline=tmp_path / "spans",
    )  # fmt: skip
    configs = list(space.enumerate())
    with tool.open_compiler(space) as session:
        assert session.room == 3
        session.submit([Trial(i, config) for i, config in enumerate(configs)], Limits())
        assert session.room == 0, "too many wait"
        outcomes, work = {}, []
        while len(outcomes) < len(configs):
            observed = [event for event in session.poll(1.0) if isinstance(event, Observed)]
            outcomes.update({event.trial: event.outcome for event in observed})
            work += [one for event in observed for one in event.work]
        session.submit([Trial(99, configs[0])], Limits())
        (again,) = session.poll(1.0)
        assert isinstance(again, Observed)
        assert session.idle
    for i, config in enumerate(configs):
        outcome = outcomes[i]
        assert isinstance(outcome, Failed)
        assert outcome.kind == ("skipped" if config["BLOCK"] == 128 else "compile_error")
        assert outcome.compile_s > 0
    assert again.outcome.details == outcomes[0].details
    spans = [span for span in read_timeline(tmp_path / "spans") if span.what == "compile"]
    assert len(spans) == 2
    assert [(one.lane, one.what) for one in work] == [(span.lane, "compile") for span in spans]
    assert [one.end_s for one in work] == pytest.approx([span.end_s for span in spans], abs=0.1)
