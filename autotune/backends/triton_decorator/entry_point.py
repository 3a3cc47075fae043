"""The public object `autotune.triton`: a decorator of kernels, with functions for the kernels of whole libraries."""

from autotune.backends.triton_decorator.decorator import kernel_decorator
from autotune.backends.triton_decorator.install import install, uninstall
from autotune.backends.triton_decorator.report import tuned_keys


class TritonDecorator:
    """`@autotune.triton(configs, key=[…])` tunes one kernel; `autotune.triton.install()` those of whole libraries.

    Calling it: see `__call__`. install: put it in the place of `triton.autotune`; uninstall: undo that. report: what
    was tuned in this process, a `TunedKey` for each key of each kernel.
    """

    __call__ = staticmethod(kernel_decorator)
    install = staticmethod(install)
    uninstall = staticmethod(uninstall)
    report = staticmethod(tuned_keys)

    def __repr__(self) -> str:
        return "autotune.triton"


triton = TritonDecorator()
