"""The GPU processes of a program: one server for all, nothing of it in a fork, nothing left at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import gpu_service
from autotune.backends.triton.gpu_service import GpuService
from autotune.shell.processes import supervisor
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.os_process import NoProcess
from tests.backends.triton.gpu_workers import Server
from tests.shell.processes.forks import PATIENCE_S, forked


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """The servers that are started."""
    made: list[Server] = []

    def start() -> Server:
        made.append(Server())
        return made[-1]

    monkeypatch.setattr(gpu_service, "_start_server", start)
    return made


@pytest.fixture
def service(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuService]:
    made = GpuService()
    monkeypatch.setattr(gpu_service, "service", made)
    yield made
    made.close()


def test_there_is_one_server_for_all_sessions_and_threads(service: GpuService, servers: list[Server]) -> None:
    assert servers == [], "nothing is started before it is needed"
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: service.prepare(), range(8)))
    assert len(servers) == 1
    assert all(one is servers[0] for one in found)


def test_a_worker_belongs_to_one_session_at_a_time_and_to_one_gpu(service: GpuService, servers: list[Server]) -> None:
    first, second, other = service.borrow("0"), service.borrow("0"), service.borrow("1")
    assert len({id(pool) for pool in (first, second, other)}) == 3
    first.spawn()
    assert first.wait(PATIENCE_S)
    service.give_back("0", first)
    assert service.borrow("1") is not first
    assert service.borrow("0") is first
    assert len(first) == 1, "with its worker"
    assert [one["visible"] for one in servers[0].settings] == ["0"]


def test_a_failure_is_raised_to_all_later_sessions(service: GpuService, servers: list[Server]) -> None:
    service.fail(EvaluatorError("no CUDA device"))
    for ask in (service.prepare, lambda: service.borrow("0")):
        with pytest.raises(EvaluatorError, match="no CUDA device"):
            ask()
    assert servers == []


def test_a_server_that_cannot_be_started_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, str]] = []
    folders: list[str] = []

    def refuse(payload: bytes, main: str, env: dict[str, str], scratch: str) -> Any:
        tried.append(env)
        folders.append(scratch)
        raise NoProcess("there is no process")

    monkeypatch.setattr(ForkServer, "from_payload", refuse)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("AUTOTUNE_TRITON_INSTALL", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    service = GpuService()
    for _ in range(2):
        with pytest.raises(EvaluatorError, match="there is no process"):
            service.prepare()
    (env,) = tried
    assert env.keys() & {"TRITON_INTERPRET", "AUTOTUNE_TRITON_INSTALL"} == set()
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["TMPDIR"] == folders[0]
    assert not Path(folders[0]).exists()


def test_a_fork_of_the_program_uses_none_of_it(service: GpuService, servers: list[Server]) -> None:
    pool = service.borrow("0")
    pool.spawn()
    assert pool.wait(PATIENCE_S)
    service.give_back("0", pool)

    def tell() -> list[Any]:
        own = gpu_service.service
        before = [own is service, own._server is None, own._free]
        own.prepare()
        own.close()
        return [*before, len(servers)]

    with forked(tell) as fork:
        assert fork.told() == [False, True, {}, 2], "it starts one of its own"
    assert len(servers) == 1
    assert not servers[0].closed
    assert supervisor.is_alive(pool.idle()[0].pid)
    assert gpu_service.service is service


def test_with_the_service_its_workers_end(service: GpuService, servers: list[Server]) -> None:
    pool = service.borrow("0")
    pool.spawn()
    assert pool.wait(PATIENCE_S)
    pid = pool.idle()[0].pid
    service.give_back("0", pool)
    service.close()
    assert not supervisor.is_alive(pid)
    assert servers[0].closed
    service.close()
    assert len(servers) == 1


PROGRAM = """
import os
from autotune.backends.triton import gpu_service

class Server:
    def close(self):
        print("closed", flush=True)

gpu_service._start_server = Server
gpu_service.service.prepare()
if (child := os.fork()):
    os.waitpid(child, 0)
    print("the fork has ended", flush=True)
"""


def test_it_is_closed_at_the_end_of_the_program_and_not_by_its_forks() -> None:
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=own, check=True)
    assert told.stdout.split("\n")[:-1] == ["the fork has ended", "closed"]
