"""What Triton does once a process is done before any worker is forked, and as far as can be while torch is imported."""

from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

tl: Any = None


def begin() -> Thread:
    """Let Triton read and sum up its own files, hundreds of megabytes, which its cache asks for; to be joined."""
    thread = Thread(target=_sum_up, daemon=True)
    thread.start()
    return thread


def _sum_up() -> None:
    for module in ("triton.runtime.cache", "triton.compiler.compiler"):  # where it is depends on the version
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
