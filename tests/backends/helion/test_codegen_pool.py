"""Code that forks of the program generate: the same as the program's, and the program's own where they cannot."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

helion = pytest.importorskip("helion")
torch = pytest.importorskip("torch")

from helion.autotuner.config_generation import ConfigGeneration  # noqa: E402

from autotune.backends.helion import codegen_pool  # noqa: E402
from autotune.backends.helion.codegen_pool import (  # noqa: E402
    CodegenPool,
    GeneratedSource,
    KnownDevices,
    generate_source,
    generates_same_source,
    make_codegen_pool,
    with_source,
)
from autotune.backends.helion.compile_pool import CompileJob  # noqa: E402
from autotune.core.search.messages import Limits  # noqa: E402

NAMES = ("matmul", "rms_norm", "softmax", "attention")


@pytest.fixture(autouse=True)
def nobody_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(codegen_pool, "PATIENCE_S", 100.0)  # a busy machine is no error
    yield
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def work(config: Any) -> CompileJob:
    return CompileJob(config, None, [], Limits())


def sources(pool: CodegenPool, configs: list[Any]) -> dict[Any, GeneratedSource]:
    """What becomes of all configs, each given as soon as one is free."""
    left = list(configs)
    found: dict[Any, GeneratedSource] = {}
    until = time.monotonic() + 60
    while len(found) < len(configs):
        assert time.monotonic() < until
        while left and pool.free:
            config = left.pop(0)
            pool.send(work(config), config)
        connection.wait(pool.connections, min(0.5, max(0.0, pool.seconds_left)))
        for done, source in pool.poll():
            assert done.config not in found
            found[done.config] = source
        if not pool.count:
            break
    return found


def doubled(config: Any) -> str:
    return f"{config} {config}"


@pytest.mark.parametrize("name", NAMES)
def test_a_fork_writes_what_the_program_would(kernels: ModuleType, name: str) -> None:
    kernel = kernels.KERNELS[name]
    bound = kernel.make(autotune_log_level=0).bind(kernel.arguments("cpu"))
    space = ConfigGeneration(bound.config_spec)
    configs = list({space.unflatten(space.default_flat()), *(space.random_config() for _ in range(5))})
    told: list[str] = []
    pool = make_codegen_pool(bound, 2, told.append)
    try:
        assert pool.count == 2
        found = sources(pool, configs)
    finally:
        pool.close()
    assert told == []
    for config, source in found.items():
        assert source.error == ""
        assert source.text is not None
        assert 0 < source.began < source.ended
        assert generates_same_source(bound, config, source.text)
        assert not generates_same_source(bound, config, source.text + "#")
        with with_source(bound, source.text):
            fn = bound.compile_config(config, allow_print=False)
        assert Path(bound.get_cached_path(config)).read_text() == source.text == generate_source(bound, config)
        assert bound.compile_config(config) is fn
        assert "to_triton_code" not in vars(bound)


def test_code_that_may_say_for_which_sizes_it_is_good_is_generated_in_the_program(kernels: ModuleType) -> None:
    kernel = kernels.KERNELS["softmax"]
    bound = kernel.make(autotune_log_level=0, static_shapes=False).bind(kernel.arguments("cpu"))
    assert make_codegen_pool(bound, 4, str).count == 0


def test_all_are_answered_once_and_by_several_processes() -> None:
    pool = CodegenPool(lambda config: f"{config} {os.getpid()}", 3)
    try:
        for i in range(3):
            assert pool.free
            pool.send(work(i), i)
        assert not pool.free
        assert len(pool) == 3
        assert 0 < pool.seconds_left <= codegen_pool.PATIENCE_S
        found: dict[Any, str | None] = {}
        until = time.monotonic() + 20
        while len(found) < 3 and time.monotonic() < until:
            found |= {done.config: source.text for done, source in pool.poll()}
        pids = {str(text).split()[1] for text in found.values()}
        assert sorted(found) == [0, 1, 2]
        assert len(pids) == 3
        assert str(os.getpid()) not in pids
        assert len(pool) == 0
        more = sources(pool, list(range(40)))
        assert sorted(more) == list(range(40))
    finally:
        pool.close()
    pool.close()
    assert pool.count == 0
    assert not pool.free


def test_an_error_is_told_and_the_process_goes_on() -> None:
    def odd(config: int) -> str:
        if config % 2:
            raise ValueError(f"{config} is odd")
        return str(config)

    pool = CodegenPool(odd, 2)
    try:
        found = sources(pool, [1, 2, 3, 4])
        assert [(found[i].text, found[i].error) for i in (1, 2, 3, 4)] == [
            (None, "ValueError: 1 is odd"), ("2", ""), (None, "ValueError: 3 is odd"), ("4", ""),
        ]  # fmt: skip
        assert pool.count == 2
    finally:
        pool.close()


def dying(config: Any) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def hanging(config: Any) -> str:
    time.sleep(600)
    return ""


@pytest.mark.parametrize(
    ("generate", "patience_s", "words"), [(dying, 30.0, "status -9"), (hanging, 0.3, "answered after 0 s")]
)
def test_all_are_given_up_with_one_that_ends_or_hangs(
    generate: Callable[[Any], str], patience_s: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codegen_pool, "PATIENCE_S", patience_s)
    told: list[str] = []
    pool = CodegenPool(lambda config: generate(config) if config == "bad" else hanging(config), 2, told.append)
    pool.send(work("bad"), "bad")
    pool.send(work("good"), "good")
    found: list[Any] = []
    until = time.monotonic() + 20
    while not found and time.monotonic() < until:
        connection.wait(pool.connections, max(0.0, pool.seconds_left))
        found = pool.poll()
    assert sorted((done.config, source.text) for done, source in found) == [("bad", None), ("good", None)]
    assert len(told) == 1
    assert words in told[0]
    assert pool.count == len(pool) == 0
    assert not pool.free
    assert pool.poll() == []


def test_what_is_lost_when_they_are_given_up_comes_without_a_text() -> None:
    pool = CodegenPool(hanging, 2)
    pool.send(work(1), 1)
    pool.abandon("of a test")
    assert len(pool) == 1
    assert pool.seconds_left == 0
    assert [(done.config, source.text) for done, source in pool.poll()] == [(1, None)]
    assert len(pool) == 0


def test_nobody_hears_of_what_was_cancelled() -> None:
    pool = CodegenPool(doubled, 1)
    try:
        pool.send(work("a"), "a")
        pool.cancel()
        assert len(pool) == 0
        assert not pool.free  # it still works at it
        until = time.monotonic() + 20
        while not pool.free and time.monotonic() < until:
            assert pool.poll() == []
        assert sources(pool, ["b"])["b"].text == "b b"
    finally:
        pool.close()


def test_a_fork_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", full)
    told: list[str] = []
    pool = CodegenPool(doubled, 2, told.append)
    assert pool.count == 0
    assert len(told) == 1
    assert "no more processes" in told[0]


def test_a_fork_prints_nothing_and_holds_no_pipe_of_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    def loud(config: Any) -> str:
        print("loud", flush=True)
        os.system("echo loud >&2")
        return config

    reader, writer = os.pipe()
    pool = CodegenPool(loud, 2)
    try:
        assert sources(pool, ["a", "b"])["b"].text == "b"
        os.close(writer)
        assert os.read(reader, 1) == b""  # the end is seen although the forks live
        assert "loud" not in "".join(capfd.readouterr())
    finally:
        pool.close()
        os.close(reader)


def test_a_fork_ends_with_the_program() -> None:
    reader, writer = multiprocessing.get_context("fork").Pipe(duplex=False)

    def program() -> None:
        pool = CodegenPool(hanging, 2)
        pool.send(work("a"), "a")
        writer.send([one.process.pid for one in pool._processes])
        os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(target=program)
    child.start()
    writer.close()
    pids = reader.recv()
    child.join()
    until = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    assert len(pids) == 2
    assert not any(map(running, pids))


def running(pid: int) -> bool:
    """A zombie, which only its new parent can remove, has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# What a fork is told of the devices


CARDS = (SimpleNamespace(name="one", major=9, minor=0), SimpleNamespace(name="two", major=8, minor=6))


def test_a_fork_knows_the_devices_and_leaves_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownDevices, "ask", classmethod(lambda cls: cls(CARDS, 1)))

    def said(config: Any) -> str:
        from torch._dynamo.device_interface import CudaInterface, get_interface_for_device
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            made = torch.empty(2, device="cuda")
        kept = CudaInterface.get_device_properties(torch.device("cuda")).name
        cc = get_interface_for_device("cuda").get_compute_capability(torch.device("cuda", 0))
        try:
            torch.zeros(1, device="cuda")
        except Exception as error:
            asked = type(error).__name__
        cuda = torch.cuda
        return repr(
            (cuda.is_available(), cuda.device_count(), cuda.current_device(), cuda.get_device_name("cuda:0"), kept,
             cuda.get_device_capability(), cc, str(made.device), asked)
        )  # fmt: skip

    pool = CodegenPool(said, 1)
    try:
        found = sources(pool, ["a"])["a"]
    finally:
        pool.close()
    assert found.error == ""
    assert found.text is not None
    assert found.text.startswith("(True, 2, 1, 'one', 'two', (8, 6), 90, 'cuda:1', ")
    assert not torch.cuda.is_available()  # the program's own torch is as it was


def test_without_a_gpu_there_is_nothing_to_tell() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert KnownDevices.ask() is None
    assert codegen_pool.GeneratedSource(text=None).error == ""
