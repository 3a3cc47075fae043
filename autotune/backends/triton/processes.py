"""The processes of one session: compile workers and one process a GPU, each pool forked from a nursery of its own.

What this machine has: cores and memory for compiling, GPUs, and who uses a GPU just now.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from autotune.backends.triton import messages, session_cache
from autotune.backends.triton.resources import gpu_of_target
from autotune.core.errors import EvaluatorError
from autotune.shell.processes import os_process
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.gpu_lock import GpuLock
from autotune.shell.processes.pool import Lost, Worker, WorkerPool, wait_for_replies

TritonWorker = Worker[messages.TritonReply]
News = list[tuple[TritonWorker, messages.TritonReply | Lost]]

_COMPILE = "autotune.backends.triton.compile_worker:run"
_GPU = "autotune.backends.triton.gpu_worker:run"
TURN_S = 0.01
LOADING_S = 0.03
"""How often to look whether a nursery has loaded."""
_SETTING_UP = "`arguments` and `reference`"


class ProcessLayout(NamedTuple):
    """device: "cuda" or "interpreter". target: what to compile for, None: not known before the GPU's process says it.

    visible: the GPUs, as CUDA_VISIBLE_DEVICES names them.
    """

    device: str
    target: str | None
    visible: tuple[str, ...]
    compile_workers: int


class ForkServers:
    """The processes from which workers are forked. They take seconds to load, so they come first.

    payloads: what those that compile and those that measure load; None: there are none such. device: "cuda" or
    "interpreter". cache_dir: Triton's cache; None: Triton's own. lasting: whether all that is compiled stays there.
    """

    def __init__(
        self,
        compile_payload: bytes | None,
        gpu_payload: bytes | None,
        device: str,
        cache_dir: str | None,
        lasting: bool = False,
    ) -> None:
        self._device = device
        self._lasting = session_cache.lasting_cache(cache_dir)
        self._cached = {} if cache_dir is None else {"TRITON_CACHE_DIR": self._lasting}
        self._all_lasts = lasting
        self.compiling = self.measuring = None
        try:
            if compile_payload is not None:
                self.compiling = self._nursery(compile_payload, _COMPILE, compiling=True)
            if gpu_payload is not None:
                self.measuring = self._nursery(gpu_payload, _GPU, compiling=False)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End them; their workers must have been ended before."""
        for nursery in (self.compiling, self.measuring):
            if nursery is not None:
                nursery.close()

    def keep(self, keys: Iterable[str]) -> None:
        """Let these kernels outlast the session, in Triton's cache. To be called before `close`."""
        if session_cache.LASTING in self._cached:
            session_cache.keep(self._cached["TRITON_CACHE_DIR"], self._lasting, keys)

    def _nursery(self, payload: bytes, main: str, compiling: bool) -> ForkServer:
        scratch = os_process.scratch_folder()
        if compiling and not self._all_lasts:  # whoever ends these processes removes the folder
            self._cached |= session_cache.environment(os.path.join(scratch, "triton"), self._lasting)
        try:
            return ForkServer(payload, main, self._environment(scratch, compiling), scratch)
        except BaseException:
            os.rmdir(scratch)
            raise

    def _environment(self, scratch: str, compiling: bool) -> dict[str, str]:
        """Compilers see no GPU; the interpreter neither; and nobody leaves files behind."""
        own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        own["TMPDIR"] = scratch
        own |= self._cached
        if compiling:
            own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        elif self._device == "interpreter":
            own |= {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
        return own


class Processes:
    """Starts everything at once and waits for nothing that is not needed yet. It ends the nurseries as well.

    lent: tensors of this process whose memory the processes of the GPUs use; they must not be freed before these end.
    """

    def __init__(self, nurseries: ForkServers, layout: ProcessLayout, lent: Sequence[Any] = ()) -> None:
        self._lent = tuple(lent)
        self.layout = layout
        self.gpus: list[messages.Gpu | None] = [None] * len(layout.visible)
        self._target = layout.target
        self._arguments: tuple[messages.DescribedArguments, ...] | None = None
        self._turns = [GpuLock(name) if layout.device == "cuda" else None for name in layout.visible]
        self._nurseries = nurseries
        self.compile_pool: WorkerPool[messages.TritonReply] | None = None
        self.gpu_pools: list[WorkerPool[messages.TritonReply]] = []
        if nurseries.compiling is not None:
            self.compile_pool = WorkerPool(self._start_compiler, messages.decode_reply)
        if nurseries.measuring is not None:
            self.gpu_pools = [self._pool(nurseries.measuring, name) for name in layout.visible]

    def idle_compiler(self) -> TritonWorker | None:
        """A compile worker that is free, or None."""
        free = [] if self.compile_pool is None else self.compile_pool.idle()
        return free[0] if free else None

    def start_compilers(self, needed: int) -> None:
        """Start compile workers for so many configs that nobody compiles yet, if it is known what to compile for."""
        compile_pool = self.compile_pool
        if compile_pool is not None and needed > compile_pool.starting and self._can_compile():
            for _ in range(min(needed - compile_pool.starting, self.layout.compile_workers - len(compile_pool))):
                compile_pool.spawn()

    def gpu_worker(self, i: int, fresh: bool = False) -> TritonWorker | None:
        """The process of GPU `i` if it is free and it is our turn, or None. fresh: it must not have served before."""
        pool = self.gpu_pools[i]
        free = pool.idle()
        if free and fresh and free[0].served:
            pool.kill(free[0])
            free = []
        if not free:
            self.start_gpu_workers()
            return None
        turn = self._turns[i]
        return free[0] if turn is None or turn.acquire() else None

    def release_gpu(self, i: int) -> None:
        """Nothing is timed on GPU `i` just now: others may."""
        turn = self._turns[i]
        if turn is not None:
            turn.release()

    def start_gpu_workers(self) -> None:
        """Start what will be needed whatever is asked, as soon as it can be."""
        nursery = self._nurseries.measuring
        if nursery is not None and not all(map(len, self.gpu_pools)) and nursery.can_fork():
            for pool in self.gpu_pools:
                if not len(pool):
                    pool.spawn()

    def gpu(self, i: int = 0) -> messages.Gpu | None:
        """What is compiled for: what GPU `i` says of itself, or the target on paper."""
        if self.layout.device == "cuda" and i < len(self.gpus) and self.gpus[i] is not None:
            return self.gpus[i]
        return None if self._target is None else gpu_of_target(self._target)

    def wait(self, timeout_s: float) -> News:
        """What has come in; what processes say of their GPU when they start is kept here."""
        began = time.monotonic()
        if self._loading:
            timeout_s = min(timeout_s, LOADING_S)
        news = wait_for_replies(self._pools(), timeout_s)
        if not news and time.monotonic() - began < min(timeout_s, TURN_S):
            time.sleep(min(timeout_s, TURN_S))  # nobody of ours is busy: it is another's turn on the GPU
        for worker, reply in news:
            if isinstance(reply, messages.ReadyReply) and reply.gpu is not None:
                self._met(worker, reply)
        return news

    def loaded(self) -> list[tuple[str, float, float]]:
        """Of each nursery its name, how many seconds ago it was started, and how long it took to load."""
        both = {"nursery of compilers": self._nurseries.compiling, "nursery of gpus": self._nurseries.measuring}
        return [(name, one.age_s, one.loading_s) for name, one in both.items() if one and one.loading_s is not None]

    def index_of(self, worker: TritonWorker) -> int | None:
        """Which GPU's process this is; None for a compile worker, or one that was let go."""
        return next((i for i, pool in enumerate(self.gpu_pools) if worker in pool), None)

    def close(self, kept: Iterable[str] = ()) -> None:
        """End everything. kept: keys of the kernels that are to stay in Triton's cache."""
        for pool in self._pools():
            pool.close()
        self._nurseries.keep(kept)
        self._nurseries.close()
        self._lent = ()
        for i in range(len(self._turns)):
            self.release_gpu(i)

    def _pools(self) -> Sequence[WorkerPool[messages.TritonReply]]:
        return [*([] if self.compile_pool is None else [self.compile_pool]), *self.gpu_pools]

    def _met(self, worker: TritonWorker, ready: messages.ReadyReply) -> None:
        i = self.index_of(worker)
        if i is not None:
            self.gpus[i] = ready.gpu
        self._arguments = ready.arguments
        if self._target is None and ready.gpu is not None and ready.gpu.target:
            self._target = ready.gpu.target

    @property
    def _loading(self) -> bool:
        """Whether there is still a nursery that cannot fork yet."""
        both = (self._nurseries.compiling, self._nurseries.measuring)
        return any(nursery is not None and not nursery.can_fork() for nursery in both)

    def _can_compile(self) -> bool:
        """Whether it is known what to compile for, and with which arguments."""
        assert self._nurseries.compiling is not None, "there is a compile_pool"
        if self._target is None or not self._nurseries.compiling.can_fork():
            return False
        note = self._nurseries.compiling.wait_until_loaded().note
        if note and not self.gpu_pools:
            raise EvaluatorError(
                f"`arguments` cannot be made without memory or a GPU ({note}); give tensors whose shapes do not depend"
                " on data"
            )
        return not note or self._arguments is not None

    def _start_compiler(self, sock: Any, stderr: int) -> Any:
        assert self._nurseries.compiling is not None, "there is a compile_pool"
        settings: dict[str, Any] = {"target": self._target}
        if self._nurseries.compiling.wait_until_loaded().note:
            settings["arguments"] = msgspec.to_builtins(self._arguments)
        return self._nurseries.compiling.start(settings, sock, stderr)

    def _pool(self, nursery: ForkServer, visible: str) -> WorkerPool[messages.TritonReply]:
        start = partial(nursery.start, {"device": self.layout.device, "visible": visible})
        return WorkerPool(start, messages.decode_reply, setting_up=_SETTING_UP)


MIB_EACH = 1024
"""Memory that a compile worker may come to need, most of it LLVM's."""
SMI_TIMEOUT_S = 20.0
CACHED_BYTES = 1 << 28
"""So much memory of GPUs may stay cached in this process: to give it back and to get it again costs a moment each."""


def default_compile_workers(gpus: int) -> int:
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


class NvidiaSmi:
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


def visible_gpus(wanted: tuple[int, ...] | None, cards: NvidiaSmi | None = None) -> tuple[str, ...]:
    """The GPUs to use, each as CUDA_VISIBLE_DEVICES names it: those numbered, or all that this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = tuple(name.strip() for name in seen.split(",") if name.strip()) if seen is not None else None
    if wanted is not None:
        return tuple(names[i] if names is not None and i < len(names) else str(i) for i in wanted)
    if names is not None:
        return names
    return tuple(row[0] for row in (cards or NvidiaSmi()).rows())


def target_of(visible: str, cards: NvidiaSmi) -> str | None:
    """ "sm_90" for the GPU of this name, without touching it; None where the driver's tool does not tell."""
    for row in cards.rows():
        if len(row) == 3 and visible in row[:2] and re.fullmatch(r"\d+\.\d", row[2]):
            return "sm_" + row[2].replace(".", "")
    return None
