"""The installation that the environment asks for, from the start of a program on.

`autotune run` puts this folder into PYTHONPATH: Python then executes `sitecustomize.py` when it starts, also in the
processes that the program starts. Nothing heavy is imported before the program imports Triton itself.
"""

import os
import sys
from types import ModuleType

from autotune.backends.triton_decorator.import_hook import AUTOTUNER_MODULE, when_imported

FOLDER = os.path.dirname(os.path.abspath(__file__))
"""The folder for PYTHONPATH."""


def install_at_import() -> None:
    """Install, as the environment says, once Triton has been imported; called if AUTOTUNE_TRITON_INSTALL is set."""
    when_imported(AUTOTUNER_MODULE, _install)


def _install(module: ModuleType) -> None:
    """A mistake in the environment is one line on stderr: it must not stop the import of Triton."""
    from autotune.backends.triton_decorator.install import install
    from autotune.core.errors import AutotuneError
    from autotune.shell.settings import environment

    try:
        if environment().triton_install:
            install()
    except AutotuneError as error:
        print(f"autotune: nothing is installed in the place of triton.autotune: {error}", file=sys.stderr)
