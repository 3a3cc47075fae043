"""Memory that two processes use, with a driver library that is made up: it lends the memory of this process."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from autotune import EvaluatorError
from autotune.backends.triton import device_memory

torch = pytest.importorskip("torch")

from autotune.backends.triton.device_memory import BorrowedMemory, lend  # noqa: E402  # after the library it needs

_CUDA_OF_HIP = {
    "hipMemGetAddressRange": "cuMemGetAddressRange_v2", "hipIpcGetMemHandle": "cuIpcGetMemHandle",
    "hipIpcOpenMemHandle": "cuIpcOpenMemHandle_v2", "hipIpcCloseMemHandle": "cuIpcCloseMemHandle",
    "hipMalloc": "cuMemAlloc_v2", "hipFree": "cuMemFree_v2",
}  # fmt: skip


class Library:
    """NVIDIA's driver or AMD's runtime.

    allocations: bytes by the address where they start. segments: the starts of those that have no handle. opened,
    closed, freed: addresses, in order. failing: functions that fail, with their status. devices: where was allocated.
    """

    def __init__(self) -> None:
        self.allocations: dict[int, int] = {}
        self.segments: set[int] = set()
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.freed: list[int] = []
        self.failing: dict[str, int] = {}
        self.devices: list[Any] = []
        self._buffers: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name == "cuGetErrorName":
            return self._name_error
        if name == "hipGetErrorName":
            return partial(lambda status: b"hipErrorOutOfMemory" if status == 2 else b"hipErrorInvalidValue")
        function = getattr(self, "_" + _CUDA_OF_HIP.get(name, name))
        return lambda *args: self.failing.get(name) or function(*args)

    def add(self, memory: Any) -> int:
        """The memory of a tensor becomes an allocation."""
        start: int = memory.untyped_storage().data_ptr()
        self.allocations[start] = memory.untyped_storage().nbytes()
        return start

    def _name_error(self, status: int, name: Any) -> None:
        name._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY" if status == 2 else b"CUDA_ERROR_INVALID_VALUE"

    def _cuMemGetAddressRange_v2(self, base: Any, size: Any, address: Any) -> int:
        for start, length in self.allocations.items():
            if start <= address.value < start + length:
                base._obj.value, size._obj.value = start, length
                return 0
        return 1

    def _cuIpcGetMemHandle(self, handle: Any, base: Any) -> int:
        if base.value in self.segments:
            return 1
        ctypes.memmove(handle, base.value.to_bytes(64, "little"), 64)
        return 0

    def _cuIpcOpenMemHandle_v2(self, opened: Any, handle: Any, flags: Any) -> int:
        assert flags.value == 1
        opened._obj.value = int.from_bytes(bytes(handle), "little")
        self.opened.append(opened._obj.value)
        return 0

    def _cuIpcCloseMemHandle(self, address: Any) -> int:
        self.closed.append(address.value)
        return 0

    def _cuMemAlloc_v2(self, allocated: Any, size: Any) -> int:
        self._buffers.append(ctypes.create_string_buffer(size.value))
        allocated._obj.value = ctypes.addressof(self._buffers[-1])
        self.allocations[allocated._obj.value] = size.value
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        self.freed.append(address.value)
        return 0


@pytest.fixture(params=["cuda", "hip"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    made, empty_strided = Library(), torch.empty_strided

    def bytes_at(address: int, size: int, device: Any) -> Any:
        if not size:
            return torch.empty(0, dtype=torch.uint8)
        return torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8)

    @contextmanager
    def on(device: Any) -> Iterator[None]:
        made.devices.append(device)
        yield

    monkeypatch.setattr(device_memory, "_driver", lambda: made)
    monkeypatch.setattr(device_memory, "_as_bytes", bytes_at)
    monkeypatch.setattr(device_memory, "is_rocm", lambda: request.param == "hip")
    monkeypatch.setattr(torch, "empty_strided", lambda *args, device, **kwargs: empty_strided(*args, **kwargs))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(torch.cuda, "device", on)
    return made


DTYPES = ["float32", "bfloat16", "float16", "float64", "int8", "int64", "bool", "complex64", "float8_e4m3fn"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_borrowed_tensor_is_the_lent_one(library: Library, dtype: str) -> None:
    memory = torch.arange(240, dtype=torch.float32).to(getattr(torch, dtype))
    library.add(memory)
    for tensor in (memory, memory[7:], memory.view(12, 20)[1:, 3:15:2], memory.view(4, 3, 20).permute(2, 0, 1),
                   memory[:1].expand(5), memory[3]):  # fmt: skip
        lent, owner = lend(tensor)
        assert owner is tensor, "its memory must not be freed before it is returned"
        borrowed = BorrowedMemory().tensor(lent)
        assert borrowed.data_ptr() == tensor.data_ptr()
        assert (borrowed.dtype, borrowed.shape) == (tensor.dtype, tensor.shape)
        assert borrowed.stride() == tensor.stride()
    view = BorrowedMemory().tensor(lend(memory[7:])[0])
    view.view(torch.uint8).zero_()
    assert bool((memory[7:].view(torch.uint8) == 0).all()), "there is one piece of memory"
    assert library.devices == []


def test_an_allocation_is_opened_once_and_returned_once(library: Library) -> None:
    first, second = torch.zeros(64), torch.zeros(64)
    starts = [library.add(memory) for memory in (first, second)]
    borrowed = BorrowedMemory()
    for tensor in (first, first[3:], second, first.view(8, 8).T):
        borrowed.tensor(lend(tensor)[0])
    assert library.opened == starts
    borrowed.close()
    assert sorted(library.closed) == sorted(starts)
    borrowed.close()
    assert len(library.closed) == 2
    borrowed.tensor(lend(first)[0])
    assert library.opened == [*starts, starts[0]]


def test_memory_that_cannot_be_returned_is_no_reason_to_keep_the_rest(library: Library) -> None:
    borrowed = BorrowedMemory()
    memory = [torch.zeros(64) for _ in range(2)]
    for one in memory:
        library.add(one)
        borrowed.tensor(lend(one)[0])
    function = "hipIpcCloseMemHandle" if device_memory.is_rocm() else "cuIpcCloseMemHandle"
    library.failing[function] = 1
    with pytest.raises(EvaluatorError, match=function):
        borrowed.close()
    library.failing.clear()
    borrowed.close()
    assert len(library.closed) == 1
    borrowed.close()
    assert len(library.closed) == 1


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_a_tensor_without_elements_needs_no_memory(library: Library, shape: tuple[int, ...]) -> None:
    lent, _ = lend(torch.empty(shape, dtype=torch.float16))
    borrowed = BorrowedMemory().tensor(lent)
    assert borrowed.shape == shape
    assert borrowed.dtype == torch.float16
    assert library.opened == []
    memory = torch.zeros(8)
    library.add(memory)
    lent, _ = lend(memory[4:4])
    assert BorrowedMemory().tensor(lent).shape == (0,)


def test_memory_without_a_handle_is_copied_into_memory_that_has_one(library: Library) -> None:
    memory = torch.arange(100.0)
    library.segments.add(library.add(memory))
    tensor = memory[5:].as_strided((4, 3), (10, 2), 5)
    lent, owner = lend(tensor)
    borrowed = BorrowedMemory().tensor(lent)
    assert torch.equal(borrowed, tensor)
    assert borrowed.stride() == tensor.stride()
    assert borrowed.data_ptr() != tensor.data_ptr()
    around = borrowed.as_strided((35,), (1,))
    assert torch.equal(around, memory[5:40]), "also the elements that lie between, which a kernel may read"
    assert library.devices == [tensor.device], "where the tensor is"
    assert library.freed == []
    address = owner.address
    del owner, borrowed, around
    gc.collect()
    assert library.freed == [address]


def test_without_memory_for_a_copy_that_is_said(library: Library) -> None:
    memory = torch.zeros(8)
    library.segments.add(library.add(memory))
    function, name = (
        ("hipMalloc", "hipErrorOutOfMemory")
        if device_memory.is_rocm()
        else ("cuMemAlloc_v2", "CUDA_ERROR_OUT_OF_MEMORY")
    )
    library.failing[function] = 2
    with pytest.raises(EvaluatorError, match=rf"cannot be shared between processes \({function}: {name}\)"):
        lend(memory)
    gc.collect()
    assert library.freed == [], "nothing was allocated"


def test_memory_that_cannot_be_opened_is_named_with_the_error_of_the_driver(library: Library) -> None:
    memory = torch.zeros(8)
    library.add(memory)
    lent, _ = lend(memory)
    function, name = "cuIpcOpenMemHandle_v2", "CUDA_ERROR_INVALID_VALUE"
    if device_memory.is_rocm():
        function, name = "hipIpcOpenMemHandle", "hipErrorInvalidValue"
    library.failing[function] = 1
    borrowed = BorrowedMemory()
    with pytest.raises(EvaluatorError, match=rf"cannot be shared between processes \({function}: {name}\)"):
        borrowed.tensor(lent)
    borrowed.close()
    assert library.closed == [], "it was not opened"


def test_what_is_no_plain_tensor_is_not_lent(library: Library) -> None:
    for tensor in (
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64).conj(),
        torch._neg_view(torch.ones(2)),
    ):
        with pytest.raises(EvaluatorError, match=f"layout {tensor.layout} and type {tensor.dtype} cannot be lent"):
            lend(tensor)


def test_without_a_driver_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setattr(device_memory, "is_rocm", lambda: False)
    device_memory._driver.cache_clear()
    with pytest.raises(EvaluatorError, match=r"cannot be shared between processes \(libcuda.so.1: cannot open"):
        device_memory._driver()
