"""The name of the distribution, and the command that installs one of its extras.

The name differs from that of the package: on the package index, `autotune` is another project.
"""

DISTRIBUTION = "autotune-kernels"


def install_command(extra: str) -> str:
    """The command that adds the extra to an installation, for a message."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
