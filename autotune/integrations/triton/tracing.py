"""`torch.compile` goes around a launch: it leaves its graph there, and what runs then is not looked at.

Nothing of the compiler is imported for that; it would take seconds.
"""

from collections.abc import Callable
from contextlib import suppress
from types import CodeType


def never() -> bool:
    """Where there is no torch, nothing traces."""
    return False


def tracer() -> Callable[[], bool]:
    """What tells whether torch is tracing the code that asks."""
    try:
        from torch.compiler import is_compiling
    except ImportError:
        return never
    found: Callable[[], bool] = is_compiling
    return found


def leave_graph() -> None:
    """To be called where the code is being traced: what called it is not made a part of the graph, but called."""
    import torch

    torch._dynamo.graph_break()


def look_away(code: CodeType) -> None:
    """Have neither this function nor what it calls traced when it is called from outside of a graph."""
    with suppress(ImportError, AttributeError):  # of torch's own parts: without them it is slower there, not wrong
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

        set_code_exec_strategy(code, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))
