"""The device in a cache key, by what torch says of it."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autotune.shell.cache import identity
from autotune.shell.cache.keys import Device
from autotune.shell.evaluators.callable import CallableEvaluator


class Backend:
    """torch's interface to the devices of one kind."""

    def __init__(self, *devices: Any) -> None:
        self._devices = devices

    def is_available(self) -> bool:
        return bool(self._devices)

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, index: int) -> Any:
        return self._devices[index]


H200 = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, multi_processor_count=132)
MI300 = SimpleNamespace(
    name="AMD Instinct MI300X", major=9, minor=4, gcnArchName="gfx942:sramecc+:xnack-", multi_processor_count=304
)
MAX = SimpleNamespace(name="Intel Max 1550", max_compute_units=448)


def make_torch(hip: str | None = None, **backends: Backend) -> Any:
    made = ModuleType("torch")
    vars(made).update({"cuda": Backend(), "xpu": Backend(), **backends, "version": SimpleNamespace(hip=hip)})
    return made


def test_each_make_has_its_kind_and_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    for torch, expected in (
        (make_torch(cuda=Backend(H200)), Device(kind="cuda", name="NVIDIA H200", architecture="sm_90", units=132)),
        (
            make_torch("6.4", cuda=Backend(MI300)),
            Device(kind="hip", name="AMD Instinct MI300X", architecture="gfx942", units=304),
        ),
        (make_torch(xpu=Backend(MAX)), Device(kind="xpu", name="Intel Max 1550", units=448)),
        (make_torch(), identity.processor()),
    ):
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert identity.current_device() == expected


def test_where_there_are_two_makes_it_is_that_of_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", make_torch(cuda=Backend(H200), xpu=Backend(MAX), npu=Backend(object())))
    assert identity.current_device(0, "xpu").name == "Intel Max 1550"
    assert identity.current_device(kind="npu") == Device(kind="npu", name="npu"), "torch tells nothing of it"
    assert identity.current_device(kind="hpu") == Device(kind="hpu", name="hpu"), "nor of this"
    for kind, name in (("xpu", "Intel Max 1550"), ("cuda", "NVIDIA H200"), ("cpu", identity.processor().name)):
        tensor = SimpleNamespace(device=SimpleNamespace(type=kind), shape=(3,), dtype="float32")
        assert identity._device(CallableEvaluator(lambda config: lambda x: None, (tensor,))).name == name
