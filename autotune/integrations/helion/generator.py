"""What a fork of the program does that generates the code of configs, one after another, until the program is gone."""

import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from autotune.integrations.helion.compiles import NICENESS
from autotune.integrations.helion.devices import Devices
from autotune.integrations.helion.waiting import end_with

Generate = Callable[[Any], str]
"""From a config to the text of its module."""


@dataclass(frozen=True)
class Source:
    """The text of a config's module; None where there is none, and why. When it was made, by time.perf_counter()."""

    text: str | None
    error: str = ""
    began: float = 0.0
    ended: float = 0.0


def serve(connection: Connection, generate: Generate, devices: Devices | None, parent: int) -> None:
    """Answer each config that comes with its Source. Nothing of the program is cleaned up here at the end."""
    status = 1
    try:
        if end_with(parent):
            _settle_in(connection, devices)
            while True:
                connection.send(_source(generate, connection.recv()))
    except (EOFError, OSError):  # nobody wants any more
        status = 0
    finally:
        os._exit(status)


def _settle_in(connection: Connection, devices: Devices | None) -> None:
    """Become a process that disturbs nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program hears of it, and ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    _let_go(connection.fileno())
    gc.freeze()  # what the program had made is the program's to destroy: tensors on the GPU are among it
    torch.set_num_threads(1)
    if devices is not None:
        devices.stand_in()


def _let_go(kept: int) -> None:
    """Hold no file of the program's: whoever reads a pipe shall see its end, and what is printed goes nowhere.

    The numbers stay taken, so that nothing is written to another file by its old number.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        if int(name) not in (kept, nowhere):
            with suppress(OSError):
                os.dup2(nowhere, int(name))


def _source(generate: Generate, config: Any) -> Source:
    began = time.perf_counter()
    try:
        text, error = generate(config), ""
    except Exception as raised:
        text, error = None, f"{type(raised).__name__}: {raised}"
    return Source(text, error, began, time.perf_counter())
