"""Triton's compiler in a worker process: made ready before any worker is forked, and its errors told from others."""

import mmap
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any
from zlib import crc32

from autotune.core.formatting import LONGEST_MESSAGE, describe_error

_IMPORT_POLL_S = 0.01
_HEAD = 120
"""Characters of a long error that are shown from its beginning; the rest of a message is its end."""

tl: Any = None
"""`triton.language`, which `_double` finds among the globals of this file."""


class CompilerRefused(Exception):
    """Triton did not compile a kernel; the cause is Triton's own error."""


def mark_errors(begin: Callable[[Any], None] | None = None) -> None:
    """Have Triton's compiler raise CompilerRefused, so that its errors can be told from errors of the user's code.

    begin: called with the source of each kernel before it is compiled.
    """
    import triton.compiler

    compile_: Callable[..., Any] = triton.compiler.compile
    if getattr(compile_, "by_autotune", False):
        return

    def compile_marked(source: Any, *args: Any, **kwargs: Any) -> Any:
        if begin is not None:
            begin(source)
        try:
            return compile_(source, *args, **kwargs)
        except Exception as error:
            raise CompilerRefused from error

    compile_marked.by_autotune = True  # type: ignore[attr-defined]
    triton.compiler.compile = compile_marked


def describe_both_ends(error: BaseException) -> str:
    """An error on one line; a long one by its beginning and its end, since Triton's errors begin with the source and
    say at the end what is wrong with it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if len(text) <= LONGEST_MESSAGE:
        return describe_error(error)
    return f"{text[:_HEAD]} … {text[_HEAD - LONGEST_MESSAGE + 3 :]}"


_hashing: list[Thread] = []


class LauncherBuilder:
    """Builds the launcher of each signature in a thread, while the compiler works on its first kernel.

    Triton before 3.7 has a C compiler build a launcher for each signature, which takes a third of a second. It is kept
    in Triton's cache, and the process that times finds it there. Of processes that are forked afterwards, one builds.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._begun = mmap.mmap(-1, mmap.PAGESIZE)  # memory that forks share

    def __call__(self, source: Any) -> None:
        place = crc32(str(getattr(source, "signature", "")).encode()) % len(self._begun)
        if not self._begun[place]:
            self._begun[place] = 1
            Thread(target=self._build, args=(source,), daemon=True).start()

    def _build(self, source: Any) -> None:
        with suppress(Exception):  # a version of Triton that has one launcher for all
            module, name = _LAUNCHERS[self._backend]
            getattr(import_module(module), name)(source, _NoMetadata())


class _NoMetadata:
    """Metadata of a kernel that is not compiled yet: a launcher is the same whatever it has."""

    def __getattr__(self, name: str) -> Any:
        return None


_LAUNCHERS = {
    "cuda": ("triton.backends.nvidia.driver", "CudaLauncher"),
    "hip": ("triton.backends.amd.driver", "HIPLauncher"),
}


def expect_launches() -> None:
    """Kernels will be launched in this process: let Triton hash its files while others are imported, unless there is no
    GPU to launch on."""
    version = getattr(sys.modules.get("torch"), "version", None)
    if getattr(version, "cuda", None) is not None or getattr(version, "hip", None) is not None:
        start_hashing_triton()


def start_hashing_triton() -> None:
    """Let Triton hash its own files, hundreds of megabytes, in a thread; its cache needs that once in a process. See
    `finish_hashing_triton`."""
    if not _hashing:
        _hashing.append(Thread(target=_hash_triton, daemon=True))
        _hashing[0].start()


def finish_hashing_triton() -> None:
    """Wait for the thread, which must be done before a process is forked: a child would have to hash them again."""
    start_hashing_triton()
    _hashing[0].join()


def _hash_triton() -> None:
    triton = sys.modules.get("triton")
    while getattr(getattr(triton, "__spec__", None), "_initializing", False):  # another thread is importing it
        time.sleep(_IMPORT_POLL_S)
    for module in ("triton.runtime.cache", "triton.compiler.compiler"):  # its place depends on the version
        with suppress(Exception):
            import_module(module).triton_key()
            return


def warm_up_compiler() -> None:
    """Compile one small kernel, past the cache. A failure is left to the first real config, which will say more."""
    global tl
    import torch
    import triton
    import triton.language as tl
    from triton import knobs

    kernel = triton.jit(_double)
    before = knobs.compilation.always_compile
    knobs.compilation.always_compile = True
    try:
        x = torch.empty(1024, device="meta", dtype=torch.float32)
        kernel[(1,)](x, x, 1024, BLOCK=128)
    except Exception:
        return
    finally:
        knobs.compilation.always_compile = before


def _double(x, out, n, BLOCK: "tl.constexpr"):  # type: ignore
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)
