"""What torch says of the GPUs, kept for a fork: it may not ask CUDA, and code generation looks at the devices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch


@dataclass(frozen=True)
class Devices:
    """properties: of each visible GPU, in torch's order. current: the number of the one in use."""

    properties: tuple[Any, ...]
    current: int

    @classmethod
    def now(cls) -> "Devices | None":
        """Ask torch, in a process that may; None where there is no GPU of CUDA's kind."""
        if not torch.cuda.is_available():
            return None
        found = tuple(torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
        return cls(found, torch.cuda.current_device())

    def index(self, device: Any = None) -> int:
        """The number that torch means by a device: the current one where it names none."""
        if isinstance(device, int):
            return device
        found: int | None = None if device is None else torch.device(device).index
        return self.current if found is None else found

    def stand_in(self) -> None:
        """Let these answer in this process, for good; whatever else would touch CUDA is an error.

        torch's interface of CUDA holds some of the functions by themselves. A fake tensor would first allocate one.
        """
        from torch._dynamo.device_interface import CudaInterface
        from torch._subclasses import fake_tensor

        answers: dict[str, Callable[..., Any]] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: len(self.properties),
            "current_device": lambda: self.current,
            "get_device_properties": lambda device=None: self.properties[self.index(device)],
            "get_device_capability": self._capability,
            "get_device_name": lambda device=None: self.properties[self.index(device)].name,
            "_lazy_init": _refuse,
        }
        for name, answer in answers.items():
            setattr(torch.cuda, name, answer)
        for name in ("current_device", "device_count", "get_device_properties"):
            setattr(CudaInterface, name, staticmethod(answers[name]))
        fake_tensor.init_gpu_context = lambda *device: None

    def _capability(self, device: Any = None) -> tuple[int, int]:
        found = self.properties[self.index(device)]
        return found.major, found.minor


def _refuse() -> NoReturn:
    raise RuntimeError("generating code has asked for CUDA, which a fork cannot use")
