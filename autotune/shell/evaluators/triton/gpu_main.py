"""The process of one GPU (or of the interpreter): makes the workloads once, then measures one config after another."""

import gc
import mmap
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from msgspec.structs import replace

from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators import wire as plain
from autotune.shell.evaluators.bench import describe
from autotune.shell.evaluators.triton import arguments, preheat, session_cache, wire
from autotune.shell.evaluators.triton.desk import CompilerRefused, Desk
from autotune.shell.evaluators.triton.device import CudaDevice, Device, HostDevice
from autotune.shell.evaluators.triton.launching import Launch
from autotune.shell.evaluators.triton.paper import PaperDriver
from autotune.shell.evaluators.triton.shipping import unpack
from autotune.shell.evaluators.worker_main import Post


class Loaded:
    """The user's functions, with nothing made of them yet."""

    note = ""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts


def load(payload_fd: int) -> Loaded:
    """What the nursery does before it forks. A GPU must not be touched here: its context would not survive a fork."""
    import triton.compiler
    from triton.runtime.driver import driver

    summing = preheat.begin()
    import torch

    driver.set_active(PaperDriver("sm_90"))  # for what a kernel's file asks when it is imported
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        loaded = Loaded(unpack(blob))
    driver._active = None
    if torch.cuda.is_initialized():
        raise EvaluatorError(
            "a file that the kernel needs uses the GPU when it is imported; move that into `arguments` or `build`"
        )
    _mark_compiler(triton.compiler)
    summing.join()
    return loaded


def _mark_compiler(compiler: Any) -> None:
    """Tell the compiler's errors from those of the code around it."""
    compile_ = compiler.compile

    def compiled(*args: Any, **kwargs: Any) -> Any:
        try:
            return compile_(*args, **kwargs)
        except Exception as error:
            raise CompilerRefused from error

    compiler.compile = compiled


def run(loaded: Loaded, sock: socket.socket, settings: dict[str, Any]) -> NoReturn:
    """What the process does. settings: `device`, "cuda" or "interpreter", and `visible`, which GPU."""
    from triton import knobs

    compilations = Compilations()
    try:
        device = _device(settings)
        desk = _desk(loaded.parts, device, compilations)
        knobs.compilation.listener = compilations
    except (Exception, SystemExit) as error:
        with suppress(Exception):  # the user's functions may have done anything with it
            sys.stderr.flush()
        sock.sendall(plain.encode(plain.Broken(describe(error))))
        os._exit(1)
    gc.collect()
    gc.freeze()
    looked_up: dict[str, dict[str, None]] = {}

    def keys(config: str) -> tuple[str, ...]:
        """What this config has looked up in Triton's cache: in one process, each kernel is looked up once."""
        found = looked_up.setdefault(config, {})
        found.update(dict.fromkeys(session_cache.asked))
        session_cache.asked.clear()
        return tuple(found)

    described = tuple(arguments.described(stage.named) for stage in desk.stages)

    def obey(order: wire.Order) -> wire.Reply:
        match order:
            case wire.Measure():
                began = time.monotonic()
                session_cache.asked.clear()
                measured = replace(desk.measure(order), began=began)
                launched = keys(order.config)
                return replace(measured, keys=launched) if isinstance(measured, wire.Measured) else measured
            case wire.Prepare():
                session_cache.asked.clear()
                prepared = desk.prepare(order)
                launched = keys(order.config)
                return replace(prepared, keys=launched) if isinstance(prepared, wire.Prepared) else prepared
            case wire.Sample():
                return desk.sample(order)
            case wire.Verify():
                return desk.verify(order)
            case wire.Forget():
                return desk.forget()
            case wire.Compile():
                raise AssertionError("nothing is compiled ahead in the process of a GPU")

    def joins(order: wire.Order) -> bool:
        """Configs that are compared are kept together; before the first of them the process must be as it was."""
        return isinstance(order, wire.Prepare) and desk.keeps

    Post(sock, wire.decode_order, scratch=os.environ.get("TMPDIR")).serve(
        obey, wire.Ready(device.gpu, described), joins
    )


def _desk(parts: dict[str, Any], device: Device, compilations: "Compilations") -> Desk:
    launch = Launch(parts["kernel"], parts["build"], parts["options"])
    sets = unpack(parts["sets"])["arguments"]
    return Desk(
        device, launch, parts["grid"], sets, parts["terms"], parts["objective"], parts["habits"], compilations.taken
    )


def _device(settings: dict[str, Any]) -> Device:
    if settings["device"] == "interpreter":
        return HostDevice()
    os.environ["CUDA_VISIBLE_DEVICES"] = settings["visible"]
    return CudaDevice(settings["visible"])


class Compilations:
    """What Triton compiles in this process although it should find it in its cache. Listens to Triton."""

    def __init__(self) -> None:
        self._missed = 0

    def __call__(self, *_: Any, cache_hit: bool = False, **__: Any) -> None:
        """One kernel was asked for."""
        self._missed += not cache_hit

    def taken(self) -> int:
        """How many were compiled since this was last asked."""
        missed, self._missed = self._missed, 0
        return missed
