"""Configs of a call compiled in forks of this process, launched from the record of that, and as Triton itself would."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autotune import Config
from autotune.backends.triton import compile_worker, messages
from autotune.backends.triton.compiler import finish_hashing_triton
from autotune.backends.triton.fake_driver import FakeDriver, FakeLaunch
from autotune.backends.triton.kernel import Launch
from autotune.backends.triton.launches import RecordedKernel
from autotune.backends.triton_decorator.launcher import Launcher, jitted_kernel
from autotune.backends.triton_decorator.tune_call import TuningTask
from autotune.shell.processes import os_process
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.pool import WorkerPool


def compile_here(launcher: Launcher, arguments: Mapping[str, Any], configs: Sequence[Config]) -> list[Any]:
    """The replies of a compile worker that is forked from this process."""
    scratch = os_process.scratch_folder()
    load = partial(compile_worker.load_here, Launch(build=launcher), arguments, "sm_90", scratch)
    finish_hashing_triton()
    server = ForkServer.from_program(load, compile_worker.run, scratch)
    pool = WorkerPool(lambda sock, stderr: server.start({}, sock, stderr), messages.decode_reply)
    try:
        pool.spawn()
        replies: list[Any] = pool.wait(60.0)
        worker = pool.idle()[0]
        for config in configs:
            pool.send(worker, messages.CompileOrder(config.to_json()), 60.0)
            replies += pool.wait(60.0)
    finally:
        pool.close()
        server.close()
    assert not Path(scratch).exists()
    return [reply for _, reply in replies[1:]]


@contextmanager
def fake_driver_here() -> Iterator[FakeDriver]:
    """While it lasts, Triton launches nothing in this process."""
    from triton.runtime.driver import driver

    before, fake = driver._active, FakeDriver("sm_90")
    driver.set_active(fake)
    try:
        yield fake
    finally:
        driver._active = before


@dataclass(frozen=True)
class RecordedConfig:
    """A config of a call. values: as it sets them. compiled: the reply of the compile worker. launches: by the record
    of it. by_triton: the same ones, by the kernel's own `run`.
    """

    values: dict[str, Any]
    compiled: Any
    launches: list[FakeLaunch]
    by_triton: list[FakeLaunch]


def task_of(decorated: Any, grid: Any, *args: Any, **kwargs: Any) -> TuningTask:
    """The tuning of a call of a decorated kernel."""
    resolver = decorated._resolver
    call = resolver.calls.bind(args, kwargs)
    task: TuningTask = resolver._task(call, resolver.prune(call, grid, False), grid)
    return task


def record_call(decorated: Any, grid: Any, *args: Any, **kwargs: Any) -> list[RecordedConfig]:
    """The configs of a list that a tuning of this call would try, each launched once from its record.

    Each launch must be the one of the kernel's own `run`: grid, binary, and all arguments that go to the device.
    """
    task = task_of(decorated, grid, *args, **kwargs)
    configs = task.candidates.configs
    assert configs, "it is a list"
    named = task.launcher_arguments(task.named)
    found = []
    for config, compiled in zip(configs, compile_here(task.launcher(task.named), named, configs), strict=True):
        values = task.candidates.values(config)
        assert isinstance(compiled, messages.Compiled), compiled
        assert compiled.launches, "they could be recorded"
        launches = replay(config, compiled, named)
        by_triton = launch_by_triton(decorated.fn, grid, *args, **kwargs, **values)
        assert_same(launches, by_triton)
        found.append(RecordedConfig(values, compiled, launches, by_triton))
    return found


def replay(config: Config, compiled: messages.Compiled, named: Mapping[str, Any]) -> list[FakeLaunch]:
    """The launches of a config by its record."""
    recorded = RecordedKernel()
    recorded.record(config, compiled.launches)
    with fake_driver_here() as fake:
        recorded.call(config)(named)
        recorded.forget()
    return fake.launches


def launch_by_triton(kernel: Any, grid: Any, *args: Any, **kwargs: Any) -> list[FakeLaunch]:
    """The launches of a kernel's own `run`."""
    caches = jitted_kernel(kernel).device_caches
    with fake_driver_here() as fake:
        caches.clear()  # a kernel keeps the driver that it was compiled for
        kernel.run(*args, grid=grid, warmup=False, **kwargs)
        caches.clear()
    return fake.launches


def assert_same(found: Sequence[FakeLaunch], expected: Sequence[FakeLaunch]) -> None:
    """The launches are the same for the device."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.metadata.hash == other.metadata.hash
        assert tuple(map(int, one.grid)) == tuple(map(int, other.grid))
        assert dict(one.source.signature) == dict(other.source.signature)
        kinds = other.source.signature.values()
        for kind, value, wanted in zip(kinds, one.arguments, other.arguments, strict=True):
            if kind != "constexpr":
                plain = isinstance(wanted, bool | int | float)
                assert (type(value), value) == (type(wanted), wanted) if plain else value is wanted
