"""The name of the distribution, and the command that installs one of its extras.

The name differs from that of the package: on the package index, `autotune` is another project.
"""

DISTRIBUTION = "autotune-kernels"


def install_command(extra: str) -> str:
    """The command that adds the extra to an installation, for a message."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


EXTRA_OF = {
    "cmaes": "optuna", "helion": "helion", "hypothesis": "testing", "kernel_tuner": "kernel-tuner",
    "matplotlib": "plots", "numba": "examples", "optuna": "optuna", "pandas": "frames", "pytest": "testing",
    "torch": "triton", "triton": "triton",
}  # fmt: skip
"""The extra that installs a module."""


def missing_module_remedy(module: str) -> str | None:
    """What to do about a module that cannot be found, where an extra has it."""
    extra = EXTRA_OF.get(module.partition(".")[0])
    return None if extra is None else install_command(extra)
