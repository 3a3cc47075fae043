"""What this machine has: cores and memory for compiling, GPUs, and who uses a GPU just now."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MIB_EACH = 1024
"""Memory that a compile worker may come to need, most of it LLVM's."""
SMI_TIMEOUT_S = 20.0
CACHED_BYTES = 1 << 28
"""So much memory of GPUs may stay cached in this process: to give it back and to get it again costs a moment each."""


def compile_workers(gpus: int) -> int:
    """One for each core that this process may use, less one for each GPU's process, as far as there is memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - gpus, _available_mib() // MIB_EACH))


def _available_mib() -> int:
    with suppress(OSError, ValueError, IndexError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found is not None:
            return int(found[1]) // 1024
    return 1 << 30


def release_cached_memory() -> None:
    """Give back the memory of GPUs that torch keeps in this process for later: another process is about to need it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    kept = sum(torch.cuda.memory_reserved(i) - torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count()))
    if kept > CACHED_BYTES:
        torch.cuda.empty_cache()


class Cards:
    """The GPUs as the driver's own tool lists them. It takes seconds, so it is started at once and read when needed."""

    def __init__(self) -> None:
        self._tool: subprocess.Popen[str] | None = None
        self._rows: list[list[str]] | None = None
        with suppress(OSError):
            self._tool = subprocess.Popen(
                ["nvidia-smi", "--query-gpu=index,uuid,compute_cap", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip

    def rows(self) -> list[list[str]]:
        """Index, UUID and compute capability of each; empty where there is no tool, or it has nothing to say."""
        if self._rows is None:
            self._rows, text = [], ""
            if self._tool is not None:
                try:
                    text = self._tool.communicate(timeout=SMI_TIMEOUT_S)[0]
                except subprocess.TimeoutExpired:
                    self._tool.kill()
                    self._tool.communicate()
                if self._tool.returncode == 0:
                    self._rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line]
        return self._rows


def visible_gpus(wanted: tuple[int, ...] | None, cards: Cards | None = None) -> tuple[str, ...]:
    """The GPUs to use, each as CUDA_VISIBLE_DEVICES names it: those numbered, or all that this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = tuple(name.strip() for name in seen.split(",") if name.strip()) if seen is not None else None
    if wanted is not None:
        return tuple(names[i] if names is not None and i < len(names) else str(i) for i in wanted)
    if names is not None:
        return names
    return tuple(row[0] for row in (cards or Cards()).rows())


def target_of(visible: str, cards: Cards) -> str | None:
    """ "sm_90" for the GPU of this name, without touching it; None where the driver's tool does not tell."""
    for row in cards.rows():
        if len(row) == 3 and visible in row[:2] and re.fullmatch(r"\d+\.\d", row[2]):
            return "sm_" + row[2].replace(".", "")
    return None
