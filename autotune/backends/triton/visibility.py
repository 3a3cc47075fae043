"""Which GPUs a process sees: the environment variables of both makes, and AMD's GPUs where torch is built for them."""

import os
from contextlib import suppress

from autotune.backends.triton.targets import is_rocm


def visibility_variable() -> str:
    """The environment variable that says which GPUs a process sees. HIP reads its own first, where that is set."""
    if "HIP_VISIBLE_DEVICES" in os.environ:
        with suppress(ImportError):
            import torch  # noqa: F401  # tells the make
        if is_rocm():
            return "HIP_VISIBLE_DEVICES"
    return "CUDA_VISIBLE_DEVICES"


def without_gpus() -> dict[str, str]:
    """The environment of a process that sees no GPU. To HIP, an empty text says nothing, and -1 is no device."""
    return {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"} if is_rocm() else {"CUDA_VISIBLE_DEVICES": ""}


def rocm_gpus() -> tuple[str, ...]:
    """The GPUs of AMD that torch sees, by their numbers; imports torch."""
    with suppress(ImportError):
        import torch

        if is_rocm():
            return tuple(map(str, range(torch.cuda.device_count())))
    return ()
