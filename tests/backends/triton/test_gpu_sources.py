"""Which process times a session, and how it goes back: with workers that are forks of this process, without a GPU."""

import gc
import os
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import gpu_service, gpu_sources, messages
from autotune.backends.triton.gpu_service import GpuService
from autotune.backends.triton.gpu_sources import FirstReadyGpu, SharedGpu
from autotune.backends.triton.local_gpu import LocalPool
from autotune.shell.processes import supervisor
from autotune.shell.processes.pool import wait_for_replies
from tests.backends.triton.gpu_workers import GPU, Server, end_at, fail_to_open, hang_at, obey
from tests.shell.processes.forks import PATIENCE_S

MEASURE = messages.MeasureOrder(config="{}", cutoff_ms=None, budget_s=1.0)


class Owner:
    """The owner of lent memory."""


class Program:
    """A program with a service, and sessions of it. local_error: why its own process cannot measure."""

    def __init__(self, service: GpuService, server: Server) -> None:
        self.service, self.server = service, server
        self.local_error: EvaluatorError | None = None
        self.owner: Any = None

    def share(self) -> SharedGpu:
        owner = Owner()
        self.owner = weakref.ref(owner)
        return SharedGpu("0", b"payload", [owner])

    def first_ready(self, share: Callable[[], SharedGpu] | None = None) -> FirstReadyGpu:
        return FirstReadyGpu(share or self.share, LocalPool(self._start_here, lambda: None))

    def _start_here(self) -> tuple[Any, messages.ReadyReply]:
        if self.local_error is not None:
            raise self.local_error
        return obey, messages.ReadyReply(GPU)

    def free_pools(self) -> list[Any]:
        return [pool for pools in self.service._free.values() for pool in pools]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    server, service = Server(), GpuService()
    monkeypatch.setattr(gpu_service, "service", service)
    monkeypatch.setattr(gpu_service, "_start_server", lambda: server)
    yield Program(service, server)
    service.close()


def receive(source: Any) -> list[Any]:
    """The next replies, which the source takes in, as a session does it."""
    replies = wait_for_replies(source.pools, PATIENCE_S)
    for worker, reply in replies:
        source.receive(worker, reply)
    return [reply for _, reply in replies]


def open_worker(source: Any, fresh: bool = False) -> Any:
    """The worker for the first config, as soon as there is one."""
    until = time.monotonic() + PATIENCE_S
    while (worker := source.worker(0, fresh)) is None:
        assert time.monotonic() < until
        receive(source)
    return worker


def let_worker_start(source: Any) -> None:
    source.start()
    while not source.pools[0].idle():
        receive(source)


# Which process is chosen


def test_the_services_worker_is_chosen_if_it_is_ready_when_the_first_config_is(program: Program) -> None:
    source = program.first_ready()
    let_worker_start(source)
    worker = open_worker(source)
    assert worker.pid != os.getpid()
    assert worker in source.pools[0]
    source.pools[0].send(worker, MEASURE, 10.0)
    assert isinstance(receive(source)[0], messages.MeasureReply)
    pid = worker.pid
    source.close()
    again = program.first_ready()
    assert open_worker(again).pid == pid, "it serves the next session"
    again.close()
    assert program.server.started == 1


@pytest.mark.parametrize("loads", [True, False])
def test_this_process_is_chosen_if_the_worker_is_not_ready(program: Program, loads: bool) -> None:
    program.server.ready = not loads
    source = program.first_ready()
    source.start()
    worker = open_worker(source)
    assert worker.pid == os.getpid()
    program.server.ready = True
    assert open_worker(source) is worker, "one process times the whole session"
    assert source.loading is False
    source.close()
    later = program.first_ready()
    let_worker_start(later)
    assert open_worker(later).pid != os.getpid()
    later.close()
    assert program.server.started == 1, "the worker that started meanwhile"


@pytest.mark.parametrize("lasting", [True, False])
def test_a_worker_that_cannot_use_the_tensors_leaves_it_to_this_process(program: Program, lasting: bool) -> None:
    program.server.answer = partial(fail_to_open, lasting)
    source = program.first_ready()
    let_worker_start(source)
    assert open_worker(source).pid == os.getpid()
    source.close()
    assert (program.service.failure is not None) == lasting, "only what no session can do is remembered"
    if lasting:
        with pytest.raises(EvaluatorError, match="in the process of the GPU: no such memory"):
            program.share()


def test_a_worker_that_dies_over_the_tensors_leaves_it_to_this_process(program: Program) -> None:
    program.server.answer = partial(end_at, messages.OpenOrder)
    source = program.first_ready()
    let_worker_start(source)
    assert open_worker(source).pid == os.getpid()
    source.close()
    assert program.service.failure is None


def test_a_process_that_is_asked_for_and_cannot_be_had_is_an_error(program: Program) -> None:
    program.server.answer = partial(fail_to_open, False)
    source = program.share()
    let_worker_start(source)
    source.start()
    with pytest.raises(EvaluatorError, match="the workload cannot be set up in the process of the GPU: no such memory"):
        receive(source)
    source.close()


# Failures


def test_a_server_that_cannot_load_is_tried_once(program: Program) -> None:
    program.server.error = EvaluatorError("torch is broken")
    source = program.first_ready()
    source.start()
    assert open_worker(source).pid == os.getpid()
    source.close()
    program.server.error = None
    for _ in range(2):
        later = program.first_ready()
        later.start()
        assert open_worker(later).pid == os.getpid()
        later.close()
    assert program.server.started == 0
    with pytest.raises(EvaluatorError, match="torch is broken"):
        program.share()


@pytest.mark.parametrize("ask", ["start", "loading"])
def test_a_server_that_cannot_load_is_remembered_by_all_who_ask_it(program: Program, ask: str) -> None:
    source = program.share()
    program.server.error = EvaluatorError("torch is broken")
    with pytest.raises(EvaluatorError, match="torch is broken"):
        source.start() if ask == "start" else source.loading
    assert program.service.failure is program.server.error
    source.close()


def test_a_worker_that_cannot_start_is_remembered(program: Program) -> None:
    source = program.first_ready()
    source.start()
    source.fail(EvaluatorError("no CUDA device"))
    assert open_worker(source).pid == os.getpid()
    source.close()
    with pytest.raises(EvaluatorError, match="no CUDA device"):
        program.service.prepare()


def test_after_configs_were_measured_in_a_process_no_other_goes_on(program: Program) -> None:
    source = program.first_ready()
    let_worker_start(source)
    open_worker(source)
    with pytest.raises(EvaluatorError, match="no CUDA device"):
        source.fail(EvaluatorError("no CUDA device"))
    assert program.service.failure is not None
    source.close()


def test_a_failure_of_this_process_is_not_the_services(program: Program) -> None:
    program.server.ready = False
    program.local_error = EvaluatorError("the reference cannot be had")
    source = program.first_ready()
    source.worker(0, False)
    with pytest.raises(EvaluatorError) as caught:
        receive(source)
    with pytest.raises(EvaluatorError, match="the reference cannot be had"):
        source.fail(caught.value)
    source.close()
    assert program.service.failure is None


def test_arguments_that_cannot_be_lent_are_no_failure_of_the_service(program: Program) -> None:
    def share() -> SharedGpu:
        raise EvaluatorError("a tensor of layout torch.sparse_coo cannot be lent")

    source = program.first_ready(share)
    assert open_worker(source).pid == os.getpid()
    source.close()
    assert program.service.failure is None


# How a worker goes back


def test_a_worker_that_has_served_is_replaced_where_a_fresh_one_is_wanted(program: Program) -> None:
    source = program.share()
    first = open_worker(source)
    assert open_worker(source, fresh=True) is first, "it has served no config"
    source.pools[0].send(first, MEASURE, 10.0)
    receive(source)
    second = open_worker(source, fresh=True)
    assert second is not first
    assert not supervisor.is_alive(first.pid)
    source.close()
    assert program.server.started == 2


def test_a_worker_that_ended_meanwhile_is_replaced(program: Program) -> None:
    """It ends after a minute without an order, between two tunings."""
    program.server.idle_s = 0.05
    source = program.share()
    worker = open_worker(source)
    source.close()
    until = time.monotonic() + PATIENCE_S
    while not worker.process.has_exited():
        assert time.monotonic() < until
        time.sleep(0.01)
    program.server.idle_s = None
    later = program.share()
    let_worker_start(later)
    assert open_worker(later).pid != worker.pid
    later.close()
    assert program.service.failure is None


def test_a_worker_that_does_not_return_its_memory_is_killed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_sources, "_CLOSE_S", 0.2)
    program.server.answer = partial(hang_at, messages.CloseOrder)
    source = program.share()
    worker = open_worker(source)
    source.close()
    assert not supervisor.is_alive(worker.pid)
    assert [len(pool) for pool in program.free_pools()] == [0]


def _as_made(source: SharedGpu) -> None:
    """Nothing was started."""


def _starting(source: SharedGpu) -> None:
    source.start()


def _ready(source: SharedGpu) -> None:
    let_worker_start(source)


def _opening(source: SharedGpu) -> None:
    let_worker_start(source)
    source.start()
    assert source.started


def _opened(source: SharedGpu) -> None:
    open_worker(source)


def _measuring(source: SharedGpu) -> None:
    source.pools[0].send(open_worker(source), MEASURE, 10.0)


def _measuring_two(source: SharedGpu) -> None:
    _measuring(source)
    source.pools[0].send(source.pools[0].busy_workers()[0], MEASURE, 10.0)


def _killed(source: SharedGpu) -> None:
    source.pools[0].kill(open_worker(source))


@pytest.mark.parametrize(
    ("state", "left"),
    [(_as_made, 0), (_starting, 1), (_ready, 1), (_opening, 1), (_opened, 1), (_measuring, 1), (_measuring_two, 0),
     (_killed, 0)],
)  # fmt: skip
def test_it_closes_in_every_state(state: Callable[[SharedGpu], None], left: int, program: Program) -> None:
    source = program.share()
    path = source._file.name
    assert Path(path).read_bytes() == b"payload"
    state(source)
    assert program.owner() is not None, "the memory is lent"
    source.close()
    gc.collect()
    assert program.owner() is None
    assert not Path(path).exists()
    (pool,) = program.free_pools()
    assert len(pool) == left
    assert all(worker.order in (None, "start") for worker in pool._workers)
    later = program.share()
    let_worker_start(later)
    assert open_worker(later) is not None
    later.close()


def test_a_session_that_chose_this_process_gives_the_worker_back_all_the_same(program: Program) -> None:
    program.server.ready = False
    source = program.first_ready()
    open_worker(source)
    assert program.free_pools() == []
    source.close()
    assert len(program.free_pools()) == 1
