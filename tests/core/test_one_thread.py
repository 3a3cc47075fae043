"""One BLAS thread while strategies are asked."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy  # noqa: F401 - loads the BLAS whose threads are counted
import pytest

from autotune.core.one_thread import blas_libraries, one_thread

THREADS = """
import numpy, threading, os
from threadpoolctl import ThreadpoolController
from msgspec import Struct
from autotune import *
from autotune.core.strategies.protocol import Done

def threads():
    return [one["num_threads"] for one in ThreadpoolController().select(user_api="blas").info()]

seen = []

class Looks(Struct, frozen=True, tag="looks"):
    def init(self, space, seeds, key):
        seen.extend(threads())
        return ()
    def propose(self, space, state, ask, key):
        seen.extend(threads())
        return Done("seen")
    def observe(self, space, state, seen):
        return state

register("looks", Looks)
before = threads()
search = start(make_plan(Space({"a": Boolean()}), Looks()))
request(search)
print(sorted(set(before)), sorted(set(seen)), threads() == before)
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a BLAS has more than one thread where there are cores for it")
def test_strategies_are_asked_on_one_thread_and_the_setting_is_restored() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    for wanted in ("2", None):
        given = environment if wanted is None else {**environment, "OMP_NUM_THREADS": wanted}
        done = subprocess.run([sys.executable, "-c", THREADS], env=given, capture_output=True, check=True, text=True)
        before, inside, restored = done.stdout.replace("] ", "]|").split("|")
        assert before != "[1]"
        assert inside == "[1]"
        assert restored.strip() == "True"


def blas_threads() -> list[int]:
    return [library.threads() for library in blas_libraries()]


def test_overlapping_blocks_and_a_fork_restore_the_setting() -> None:
    before, barrier = blas_threads(), Barrier(4)

    def inside(turn: int) -> set[int]:
        found: set[int] = set()
        for _ in range(50):
            barrier.wait()
            with one_thread():
                found |= set(blas_threads())
        return found

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(inside, range(4))) == {1}
    assert blas_threads() == before
    with one_thread():
        child = os.fork()
        if not child:
            with one_thread():
                pass
            os._exit(0 if blas_threads() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(ZeroDivisionError), one_thread():
        _ = 1 / 0
    assert blas_threads() == before
