"""The processes of one Triton session: compile workers and one worker a GPU, each forked from a fork server.

Compile workers and GPU workers have a fork server each. They need different environments from the start (compile
workers see no GPU and use one thread; the interpreter is a variable that Triton reads when a kernel is decorated), and
compile workers make the user's arguments without memory, which must leave no trace in a process that measures.

The rest of the file finds out the resources of this machine: cores and memory for compiling, and GPUs.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import msgspec

from autotune.backends.triton import compile_worker, messages, session_cache
from autotune.backends.triton.compile_worker import NOT_THEIRS
from autotune.backends.triton.compiler import finish_hashing_triton
from autotune.backends.triton.gpu_sources import GpuPool, GpuSource, TritonWorker
from autotune.backends.triton.targets import gpu_of_target
from autotune.backends.triton.visibility import rocm_gpus, visibility_variable, without_gpus
from autotune.core.errors import EvaluatorError
from autotune.shell.processes import os_process
from autotune.shell.processes.fork_server import ForkServer
from autotune.shell.processes.gpu_lock import GpuLock
from autotune.shell.processes.pool import Lost, Worker, WorkerPool, wait_for_replies

CompileWorker = Worker[messages.TritonReply]
CompilePool = WorkerPool[messages.TritonReply]

_COMPILE_MAIN = "autotune.backends.triton.compile_worker:run"
_GPU_MAIN = "autotune.backends.triton.gpu_worker:run"
_LOCK_POLL_S = 0.01
"""How often to ask for the lock of a GPU while another process times on it."""
_LOADING_POLL_S = 0.03
"""How often to look whether a fork server has loaded."""


@dataclass(frozen=True, kw_only=True)
class ProcessLayout:
    """device: "cuda" or "interpreter". target: what to compile for; None: unknown until a GPU worker tells it.
    visible: the GPUs, as CUDA_VISIBLE_DEVICES (of AMD, HIP_VISIBLE_DEVICES) names them.
    """

    device: str
    target: str | None
    visible: tuple[str, ...]
    compile_workers: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgramParts:
    """The user's functions and their arguments as the program has them in memory, for workers that are forked from it.

    target: what to compile for, where it is known. pack: the same as a payload, where the fork cannot use it.
    """

    parts: dict[str, Any]
    target: str | None = None
    pack: Callable[[], bytes] | None = None


class ForkServers:
    """The fork servers of a session. They are started first: a new process takes seconds to load.

    compiling, measuring: the workloads of compile workers and GPU workers, in forks of the program, or as a payload for
    a new process. None: there are no such workers. device: "cuda" or "interpreter". cache_dir: Triton's cache; None:
    Triton's own. keep_all: every binary stays in that cache.
    """

    def __init__(
        self,
        compiling: ProgramParts | bytes | None,
        measuring: ProgramParts | bytes | None,
        device: str,
        cache_dir: str | None,
        keep_all: bool = False,
    ) -> None:
        self._device = device
        self._lasting = session_cache.lasting_cache(cache_dir)
        self._cache_environment = {} if cache_dir is None else {"TRITON_CACHE_DIR": self._lasting}
        self._keep_all = keep_all
        self.compiling: ForkServer | None = None
        self.measuring: ForkServer | None = None
        try:
            if compiling is not None:
                self.compiling = self._start(compiling, compiling=True)
            if measuring is not None:
                self.measuring = self._start(measuring, compiling=False)
        except BaseException:
            self.close()
            raise

    @property
    def started(self) -> dict[str, ForkServer]:
        """The fork servers by their names in a timeline."""
        both = {"fork server of compilers": self.compiling, "fork server of gpus": self.measuring}
        return {name: server for name, server in both.items() if server is not None}

    def keep(self, keys: Iterable[str]) -> None:
        """Move these kernels to the lasting cache. To be called before `close`."""
        if session_cache.LASTING in self._cache_environment:
            session_cache.keep_kernels(self._cache_environment["TRITON_CACHE_DIR"], self._lasting, keys)

    def close(self) -> None:
        """End the servers; their workers must have been ended before."""
        for server in self.started.values():
            server.close()

    def _start(self, workload: ProgramParts | bytes, compiling: bool) -> ForkServer:
        if isinstance(workload, ProgramParts):
            server = self._begin(workload, compiling)
            if workload.pack is None:
                return server
            try:
                server.wait_until_loaded()
                return server
            except EvaluatorError:  # the program has used its GPU, which torch told the fork alone
                server.close()
                workload = workload.pack()
        return self._begin(workload, compiling)

    def _begin(self, workload: ProgramParts | bytes, compiling: bool) -> ForkServer:
        scratch = os_process.scratch_folder()
        if compiling and not self._keep_all:  # the supervisor of these processes removes the folder
            folder = os.path.join(scratch, "triton")
            self._cache_environment |= session_cache.worker_environment(folder, self._lasting)
        differing = {"TMPDIR": scratch, **self._cache_environment}
        if compiling:
            differing |= {**without_gpus(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        elif self._device == "interpreter":
            differing |= {**without_gpus(), "TRITON_INTERPRET": "1"}
        try:
            if isinstance(workload, bytes):
                own = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
                main = _COMPILE_MAIN if compiling else _GPU_MAIN
                return ForkServer.from_payload(workload, main, own | differing, scratch)
            if compiling:
                finish_hashing_triton()
                load = partial(compile_worker.load_in_program, workload.parts, workload.target, differing)
                return ForkServer.from_program(load, compile_worker.run, scratch)
            if self._device != "interpreter":
                finish_hashing_triton()
            from autotune.backends.triton import gpu_worker

            measure = partial(gpu_worker.load_in_program, workload.parts, differing)
            return ForkServer.from_program(measure, gpu_worker.run, scratch)
        except BaseException:
            os.rmdir(scratch)
            raise


_NO_DRIVER = SimpleNamespace()


def survives_fork(device: str) -> bool:
    """Whether a GPU worker can be a fork of this program: a program that has used CUDA cannot fork one.

    Where it is not known, as after `torch.cuda.is_available()`, the fork finds out.
    """
    if device == "interpreter":
        return True
    torch, runtime = sys.modules.get("torch"), sys.modules.get("triton.runtime.driver")
    used = torch is not None and torch.cuda.is_initialized()
    driver = vars(getattr(runtime, "driver", None) or _NO_DRIVER)  # Triton's, which may have begun to use it
    return not used and all(driver.get(name) is None for name in ("_active", "_default"))


_sessions: "WeakSet[Processes]" = WeakSet()
"""The sessions of this program, whose threads may each tune a kernel."""


class Processes:
    """All processes of a session: it starts them together, and waits for nothing that is not needed yet.

    compiling: forks the compile workers; None where nothing is compiled ahead. gpus: None where nothing is measured.
    servers: closed at the end. keep: moves the kernels of these keys to the lasting cache. owners: of memory that GPU
    workers use; it must not be freed before these end. resources: closed at the very end.
    """

    def __init__(
        self,
        layout: ProcessLayout,
        *,
        compiling: ForkServer | None,
        gpus: GpuSource | None,
        servers: Mapping[str, ForkServer],
        keep: Callable[[Iterable[str]], None],
        owners: Sequence[Any] = (),
        resources: ExitStack | None = None,
    ) -> None:
        self.layout = layout
        self.devices: list[messages.Gpu | None] = [None] * len(layout.visible)
        self._compiling = compiling
        self._gpus = gpus
        self._servers = dict(servers)
        self._keep = keep
        self._owners = tuple(owners)
        self._resources = resources or ExitStack()
        self._target = layout.target
        self._arguments: tuple[messages.DescribedArguments, ...] | None = None
        self._locks = [GpuLock(name) if layout.device == "cuda" else None for name in layout.visible]
        self.compile_pool: CompilePool | None = None
        if compiling is not None:
            self.compile_pool = WorkerPool(self._fork_compiler, messages.decode_reply)
        _sessions.add(self)

    @property
    def gpu_pools(self) -> Sequence[GpuPool]:
        """One pool, of one worker, for each GPU; empty where nothing is measured."""
        return () if self._gpus is None else self._gpus.pools

    def idle_compiler(self) -> CompileWorker | None:
        """A compile worker that is free, or None."""
        free = [] if self.compile_pool is None else self.compile_pool.idle()
        return free[0] if free else None

    def start_compilers(self, waiting: int) -> None:
        """Start compile workers for so many configs that wait for one, once it is known what to compile for."""
        pool = self.compile_pool
        if pool is not None and waiting > pool.starting and self._can_compile():
            for _ in range(min(waiting - pool.starting, self._free_places())):
                pool.spawn()

    def start_gpu_workers(self) -> None:
        """Start the worker of each GPU as soon as that is possible: it is needed in any case."""
        if self._gpus is not None:
            self._gpus.start()

    def gpu_worker(self, i: int, fresh: bool = False) -> TritonWorker | None:
        """The worker of GPU `i`, if it is free and this process holds the GPU's lock, or None.

        fresh: it must have served no config before; a worker that has is replaced.
        """
        assert self._gpus is not None, "there is a GPU to measure on"
        worker = self._gpus.worker(i, fresh)
        lock = self._locks[i]
        return worker if worker is None or lock is None or lock.acquire() else None

    def release_gpu(self, i: int) -> None:
        """Nothing is timed on GPU `i` just now: other processes may use it."""
        lock = self._locks[i]
        if lock is not None:
            lock.release()

    def index_of(self, worker: TritonWorker) -> int | None:
        """The GPU of this worker; None for a compile worker, or a worker that was killed."""
        return next((i for i, pool in enumerate(self.gpu_pools) if worker in pool), None)

    def gpu(self, i: int = 0) -> messages.Gpu | None:
        """The device that is compiled for: by the worker of GPU `i`, or by the name of the target."""
        if self.layout.device == "cuda" and i < len(self.devices) and self.devices[i] is not None:
            return self.devices[i]
        return None if self._target is None else gpu_of_target(self._target)

    def wait(self, timeout_s: float) -> list[tuple[Any, messages.TritonReply | Lost]]:
        """The replies that have arrived, waiting so long at most for the first. What GPU workers say about their
        devices when they start is noted here."""
        began = time.monotonic()
        if self._loading:
            timeout_s = min(timeout_s, _LOADING_POLL_S)
        try:
            replies = wait_for_replies(self._pools(), timeout_s)
        except EvaluatorError as error:
            if self._gpus is None:
                raise
            self._gpus.fail(error)
            return []
        if not replies and time.monotonic() - began < min(timeout_s, _LOCK_POLL_S):
            time.sleep(min(timeout_s, _LOCK_POLL_S))  # no worker of ours is busy: another process times on the GPU
        for worker, reply in replies:
            if self._gpus is not None:
                self._gpus.receive(worker, reply)
            if isinstance(reply, messages.ReadyReply) and reply.gpu is not None:
                self._note_gpu(worker, reply)
        return replies

    def loaded_servers(self) -> list[tuple[str, float, float]]:
        """Of each fork server that has loaded: its name, how many seconds ago it was started, how long it took."""
        servers = self._servers.items()
        return [(name, one.age_s, one.loading_s) for name, one in servers if one.loading_s is not None]

    def close(self, kept: Iterable[str] = ()) -> None:
        """End everything. kept: keys of the kernels that stay in Triton's cache."""
        _sessions.discard(self)
        self._keep(kept)  # before the servers' folders are removed
        if self._gpus is not None:
            self._gpus.close()
        for server in self._servers.values():
            server.close()
        if self.compile_pool is not None:
            self.compile_pool.close()
        self._owners = ()
        for i in range(len(self._locks)):
            self.release_gpu(i)
        self._resources.close()

    def _free_places(self) -> int:
        """How many more compile workers there may be. Sessions of one program share its cores; each has a worker."""
        pools = [one.compile_pool for one in _sessions if one.compile_pool is not None]
        own = 0 if self.compile_pool is None else len(self.compile_pool)
        return max(self.layout.compile_workers - sum(map(len, pools)), 1 - own)

    @property
    def _loading(self) -> bool:
        """Whether a fork server is not ready yet; raises EvaluatorError where it cannot load."""
        compiling = self._compiling is not None and not self._compiling.can_fork()
        return compiling or (self._gpus is not None and self._gpus.loading)

    def _pools(self) -> Sequence[GpuPool]:
        return [*([] if self.compile_pool is None else [self.compile_pool]), *self.gpu_pools]

    def _note_gpu(self, worker: TritonWorker, ready: messages.ReadyReply) -> None:
        i = self.index_of(worker)
        if i is not None:
            self.devices[i] = ready.gpu
        self._arguments = ready.arguments
        if self._target is None and ready.gpu is not None and ready.gpu.target:
            self._target = ready.gpu.target

    def _can_compile(self) -> bool:
        """Whether the target of the compiler and the arguments are known."""
        assert self._compiling is not None, "there is a compile pool"
        if self._target is None or not self._compiling.can_fork():
            return False
        note = self._compiling.wait_until_loaded().note
        if note and self._gpus is None:
            raise EvaluatorError(
                f"`arguments` cannot be made without memory or a GPU ({note}); give tensors whose shapes do not depend"
                " on data"
            )
        return not note or self._arguments is not None

    def _fork_compiler(self, sock: Any, stderr: int) -> os_process.Process:
        assert self._compiling is not None, "there is a compile pool"
        settings: dict[str, Any] = {"target": self._target}
        if self._compiling.wait_until_loaded().note:
            settings["arguments"] = msgspec.to_builtins(self._arguments)
        return self._compiling.start(settings, sock, stderr)


_WORKER_MIB = 1024
"""MiB that a compile worker may come to need, most of them LLVM's."""
_SMI_TIMEOUT_S = 20.0
_FREE_BYTES = 8 << 30
"""Bytes of free GPU memory that are enough for the copies and buffers of a process that times kernels."""
_MOST_CACHED_BYTES = 1 << 28
"""Bytes of GPU memory that may stay cached in this process: to free and to allocate them again takes a moment each."""


def default_compile_workers(gpus: int) -> int:
    """One for each core that this process may use, less one for each GPU worker, as far as memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - gpus, _available_mib() // _WORKER_MIB))


def _available_mib() -> int:
    with suppress(OSError, ValueError, IndexError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found is not None:
            return int(found[1]) // 1024
    return 1 << 30


def release_cached_memory() -> None:
    """Free the GPU memory that torch caches in this process where another process may lack it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    devices = range(torch.cuda.device_count())
    kept = sum(torch.cuda.memory_reserved(i) - torch.cuda.memory_allocated(i) for i in devices)
    if kept > _MOST_CACHED_BYTES and min(torch.cuda.mem_get_info(i)[0] for i in devices) < _FREE_BYTES:
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
        """Index, UUID and compute capability of each GPU; empty where the tool is missing or fails."""
        if self._rows is None:
            self._rows, text = [], ""
            if self._tool is not None:
                try:
                    text = self._tool.communicate(timeout=_SMI_TIMEOUT_S)[0]
                except subprocess.TimeoutExpired:
                    self._tool.kill()
                    self._tool.communicate()
                if self._tool.returncode == 0:
                    self._rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line]
        return self._rows


def visible_gpus(wanted: tuple[int, ...] | None, smi: NvidiaSmi | None = None) -> tuple[str, ...]:
    """The GPUs to use, each as CUDA_VISIBLE_DEVICES (of AMD, HIP_VISIBLE_DEVICES) names it: those with these numbers,
    or all that are visible."""
    seen = os.environ.get(visibility_variable())
    names = tuple(name.strip() for name in seen.split(",") if name.strip()) if seen is not None else None
    if wanted is not None:
        return tuple(names[i] if names is not None and i < len(names) else str(i) for i in wanted)
    if names is not None:
        return names
    return tuple(row[0] for row in (smi or NvidiaSmi()).rows()) or rocm_gpus()


def target_of(visible: str, smi: NvidiaSmi) -> str | None:
    """ "sm_90" for the GPU of this name, without touching it; None where the driver's tool does not tell."""
    for row in smi.rows():
        if len(row) == 3 and visible in row[:2] and re.fullmatch(r"\d+\.\d", row[2]):
            return "sm_" + row[2].replace(".", "")
    return None
