"""A worker process of `CommandEvaluator`: it builds and runs commands as it is ordered.

The programs that it starts are in its group, so they are stopped, and killed at a deadline, together with it. Its
supervisor removes its folder.
"""

import mmap
from typing import Any, NoReturn

import cloudpickle

from autotune.backends.command.bench import CommandBench, CommandWork
from autotune.core.errors import EvaluatorError
from autotune.shell.evaluators.worker_main import serve
from autotune.shell.evaluators.workload import pickled_by_value


def pack(work: CommandWork) -> bytes:
    """The work as a pickle; raises EvaluatorError where the checker does not pickle."""
    with pickled_by_value((work.checker,)):
        try:
            return bytes(cloudpickle.dumps(work))
        except Exception as error:
            raise EvaluatorError(
                f"the checker cannot be sent to a worker process ({type(error).__name__}: {error}); let it use nothing "
                "but its arguments and what it can import"
            ) from error


def main(settings: dict[str, Any]) -> NoReturn:
    """Entry point of the process. settings: `scratch`, and the settings of `boot`."""
    serve(settings, lambda payload: CommandBench(_load(payload), settings["scratch"]))


def _load(payload_fd: int) -> CommandWork:
    """The work in an open file; trusted, because only the parent process writes it. Mapped, because all workers share
    the file's offset."""
    with open(payload_fd, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        work = cloudpickle.loads(blob)
    assert isinstance(work, CommandWork)
    return work
