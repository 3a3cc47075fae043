"""GPU memory that two processes use: a tensor of one process as a tensor of another, without a copy.

The driver lends an allocation to other processes of the machine by a handle of 64 bytes. torch has a protocol of its
own around these handles, which counts the receivers of each storage, and warns at the program's end where storages that
were sent still live, as a model's weights do. Here the session that lends the tensors holds them until its workers have
returned them, so nothing need be counted.

Memory that has no handle, as that of torch's expandable segments, is copied into an allocation that has one.
"""

import ctypes
from contextlib import suppress
from functools import cache
from typing import Any

from msgspec import Struct

from autotune.backends.triton.targets import is_rocm
from autotune.core.errors import EvaluatorError

_HANDLE_BYTES = 64
"""CU_IPC_HANDLE_SIZE in <cuda.h>, HIP_IPC_HANDLE_SIZE in <hip_runtime_api.h>."""
_LAZY_PEER_ACCESS = 1
"""CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS in <cuda.h>, the only flag that the driver accepts."""

_FUNCTIONS = {
    "range": ("cuMemGetAddressRange_v2", "hipMemGetAddressRange"),
    "lend": ("cuIpcGetMemHandle", "hipIpcGetMemHandle"),
    "open": ("cuIpcOpenMemHandle_v2", "hipIpcOpenMemHandle"),
    "close": ("cuIpcCloseMemHandle", "hipIpcCloseMemHandle"),
    "allocate": ("cuMemAlloc_v2", "hipMalloc"),
    "free": ("cuMemFree_v2", "hipFree"),
}
"""The functions of NVIDIA's driver and of AMD's runtime, which take the same arguments."""


class _Handle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_char * _HANDLE_BYTES)]


class LentTensor(Struct, frozen=True, kw_only=True):
    """A tensor in the memory of another process. handle: of the allocation. offset: bytes from its start to the
    tensor's first element. dtype: torch's name. shape, strides: in elements.
    """

    handle: bytes
    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def lend(tensor: Any) -> tuple[LentTensor, Any]:
    """A tensor for another process, and the object that owns its memory, which must live as long as it is lent.

    Raises EvaluatorError where the driver lends no memory.
    """
    import torch

    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg() or tensor.is_quantized:
        raise EvaluatorError(f"a tensor of layout {tensor.layout} and type {tensor.dtype} cannot be lent to a process")
    address, owner = tensor.data_ptr(), tensor
    if address == 0:
        return _describe(tensor, b"", 0), tensor
    try:
        base, handle = _handle_of(address)
    except EvaluatorError:
        with torch.cuda.device(tensor.device):  # the driver allocates on the current one
            copy = _PlainAllocation(_span_bytes(tensor), tensor.device)
        copy.fill_from(tensor)
        address, owner = copy.address, copy
        base, handle = _handle_of(address)
    return _describe(tensor, handle, address - base), owner


def _describe(tensor: Any, handle: bytes, offset: int) -> LentTensor:
    return LentTensor(
        handle=handle,
        offset=offset,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        strides=tuple(tensor.stride()),
    )


def _span_bytes(tensor: Any) -> int:
    """Bytes from the first element to the end of the last one."""
    if not tensor.numel():
        return 0
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int((reach + 1) * tensor.element_size())


def _handle_of(address: int) -> tuple[int, bytes]:
    """The start of the allocation that an address lies in, and its handle."""
    base, size, handle = ctypes.c_uint64(), ctypes.c_size_t(), _Handle()
    _call("range", ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(address))
    _call("lend", ctypes.byref(handle), base)
    return int(base.value), ctypes.string_at(ctypes.byref(handle), _HANDLE_BYTES)


class BorrowedMemory:
    """The memory of another process, as this one uses it. An allocation is opened once, for all tensors in it."""

    def __init__(self) -> None:
        self._opened: dict[bytes, int] = {}

    def tensor(self, lent: LentTensor) -> Any:
        """The tensor in this process; raises EvaluatorError where its memory cannot be opened."""
        import torch

        dtype = getattr(torch, lent.dtype)
        if not lent.handle:
            return torch.empty_strided(lent.shape, lent.strides, dtype=dtype, device="cuda")
        size = torch.empty(0, dtype=dtype).element_size()
        elements = 1 + sum((n - 1) * s for n, s in zip(lent.shape, lent.strides, strict=True)) if all(lent.shape) else 0
        bytes_ = _as_bytes(self._open(lent.handle) + lent.offset, elements * size, torch.device("cuda"))
        return bytes_.view(dtype).as_strided(lent.shape, lent.strides)

    def close(self) -> None:
        """Return all memory to its owner; no tensor in it may be used any more."""
        while self._opened:
            _, address = self._opened.popitem()
            _call("close", ctypes.c_uint64(address))

    def _open(self, handle: bytes) -> int:
        if handle not in self._opened:
            opened, by_value = ctypes.c_uint64(), _Handle.from_buffer_copy(handle)
            _call("open", ctypes.byref(opened), by_value, ctypes.c_uint(_LAZY_PEER_ACCESS))
            self._opened[handle] = int(opened.value)
        return self._opened[handle]


_borrowed = BorrowedMemory()
"""The memory that this process has borrowed."""


def borrow(lent: LentTensor) -> Any:
    """The tensor in this process; see `BorrowedMemory`."""
    return _borrowed.tensor(lent)


def return_borrowed() -> None:
    """Return all memory that `borrow` has opened."""
    _borrowed.close()


class _PlainAllocation:
    """Memory from the driver itself, freed with this object."""

    def __init__(self, size: int, device: Any) -> None:
        allocated = ctypes.c_uint64()
        self._device = device
        self._size = max(size, 1)
        _call("allocate", ctypes.byref(allocated), ctypes.c_size_t(self._size))
        self.address = int(allocated.value)

    def fill_from(self, tensor: Any) -> None:
        """Copy the elements of a tensor, and whatever lies between them."""
        import torch

        own = _as_bytes(self.address, self._size, self._device)
        own.copy_(_as_bytes(tensor.data_ptr(), self._size, self._device))
        torch.cuda.synchronize(self._device)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            with suppress(EvaluatorError):  # the context is gone, and its memory with it
                _call("free", ctypes.c_uint64(self.address))


class _DeviceBytes:
    """Bytes of GPU memory in the form that torch reads."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip


def _as_bytes(address: int, size: int, device: Any) -> Any:
    import torch

    if not size:
        return torch.empty(0, dtype=torch.uint8, device=device)
    return torch.as_tensor(_DeviceBytes(address, size), device=device)


def _call(action: str, *args: Any) -> None:
    """Call the driver; raises EvaluatorError, which names the function and the error as the driver does."""
    function = _FUNCTIONS[action][is_rocm()]
    status = getattr(_driver(), function)(*args)
    if status:
        raise EvaluatorError(f"GPU memory cannot be shared between processes ({function}: {_error_name(status)})")


def _error_name(status: int) -> str:
    if is_rocm():
        function = _driver().hipGetErrorName
        function.restype = ctypes.c_char_p
        return (function(status) or b"").decode() or str(status)
    name = ctypes.c_char_p()
    _driver().cuGetErrorName(status, ctypes.byref(name))
    return (name.value or b"").decode() or str(status)


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL("libamdhip64.so" if is_rocm() else "libcuda.so.1")
    except OSError as error:
        raise EvaluatorError(f"GPU memory cannot be shared between processes ({error})") from None
