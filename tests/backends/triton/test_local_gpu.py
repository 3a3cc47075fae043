"""This process as the worker of a pool: orders are carried out when the pool is polled, in their order."""

import os
from typing import Any

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import messages
from autotune.backends.triton.local_gpu import LocalPool, LocalWorker
from autotune.shell.processes.pool import wait_for_replies


class Device:
    """The workload on a device that may be spoilt. done: the orders that were carried out."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.starts = 0
        self.spoilt = False
        self.pool = LocalPool(self.start, self.synchronize)

    def start(self) -> tuple[Any, messages.ReadyReply]:
        self.starts += 1
        return self.obey, messages.ReadyReply(messages.Gpu(name="a device"))

    def obey(self, order: Any) -> Any:
        self.done.append(order)
        return messages.SampleReply((1.0,), 0.0)

    def synchronize(self) -> None:
        if self.spoilt:
            raise RuntimeError("an illegal memory access was encountered")

    def ready_worker(self) -> LocalWorker:
        self.pool.spawn()
        ((worker, reply),) = self.pool.poll()
        assert reply == messages.ReadyReply(messages.Gpu(name="a device"))
        return worker


@pytest.fixture
def device() -> Device:
    return Device()


def measure(name: str) -> messages.MeasureOrder:
    return messages.MeasureOrder(config=name, cutoff_ms=None, budget_s=1.0)


def test_the_workload_is_made_when_the_pool_is_polled(device: Device) -> None:
    pool = device.pool
    assert pool.poll() == []
    pool.spawn()
    assert len(pool) == 1
    assert pool.idle() == []
    assert device.starts == 0
    assert [reply for _, reply in wait_for_replies([pool], 0.0)] == [messages.ReadyReply(messages.Gpu(name="a device"))]
    (worker,) = pool.idle()
    assert worker.pid == os.getpid()
    assert worker in pool
    assert list(pool.busy_workers()) == [], "there is no process to wait for"


def test_orders_are_carried_out_one_at_a_poll(device: Device) -> None:
    worker = device.ready_worker()
    first, second = measure("first"), measure("second")
    device.pool.send(worker, first, 3.0)
    device.pool.send(worker, second, 4.0)
    assert worker.served == 1
    assert device.done == []
    assert len(device.pool.poll()) == 1
    assert device.done == [first]
    assert worker.order is second
    assert worker.following is None
    assert worker.served == 2, "a config that follows another one may have been harmed by it"
    assert worker.allowed_s == 4.0
    begun = worker.deadline - worker.allowed_s
    device.pool.poll()
    assert device.done == [first, second]
    assert device.pool.idle() == [worker]
    assert device.pool.poll() == []
    assert worker.age_s >= 0.0
    assert begun > 0.0


def test_orders_that_nobody_waits_for_are_not_carried_out(device: Device) -> None:
    worker = device.ready_worker()
    device.pool.send(worker, measure("first"), 3.0)
    device.pool.send(worker, measure("second"), 3.0)
    worker.shorten_deadline(1.0)
    replies = [reply for _ in range(2) for _, reply in device.pool.poll()]
    assert [reply.failed.kind for reply in replies if isinstance(reply, messages.Refused)] == ["skipped", "skipped"]
    assert device.done == []
    third = measure("third")
    device.pool.send(worker, third, 3.0)
    device.pool.poll()
    assert device.done == [third], "those after them are"


def test_a_worker_that_starts_is_started_although_nobody_waits(device: Device) -> None:
    device.pool.spawn()
    device.pool._worker.shorten_deadline(1.0)  # type: ignore[union-attr]
    ((_, reply),) = device.pool.poll()
    assert isinstance(reply, messages.ReadyReply)


def test_a_worker_that_is_replaced_begins_anew(device: Device) -> None:
    worker = device.ready_worker()
    device.pool.send(worker, measure("first"), 3.0)
    device.pool.poll()
    device.pool.kill(worker)
    assert len(device.pool) == 0
    assert worker not in device.pool
    assert device.ready_worker() is not worker
    assert device.starts == 2


def test_a_spoilt_context_is_the_end(device: Device) -> None:
    worker = device.ready_worker()
    device.spoilt = True
    with pytest.raises(EvaluatorError, match=r"did not survive a config .*illegal memory.* isolation=\"process\""):
        device.pool.kill(worker)
    device.pool.close()  # says nothing more


def test_a_workload_that_cannot_be_used_is_an_error_at_each_poll() -> None:
    def start() -> Any:
        raise EvaluatorError("the reference cannot be had")

    pool = LocalPool(start, lambda: None)
    pool.spawn()
    for _ in range(2):
        with pytest.raises(EvaluatorError, match="the reference cannot be had"):
            pool.poll()
    pool.close()
    assert pool.poll() == []
