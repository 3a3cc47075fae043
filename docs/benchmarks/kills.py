"""What is left of a tuning program, its workers and its kernels' processes two seconds after one of them was killed.

    python docs/benchmarks/kills.py [--kills 60] [--seed 0]

The kernels leave threads, children, and daemons in sessions of their own. The program is ended by SIGKILL, SIGHUP or
SIGQUIT, or one of its processes (a supervisor, a worker, or a child of a kernel) by SIGKILL, which the search must
survive; while workers start, in the search, or in a comparison, half of the time while builds are stopped for a timing.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from contextlib import suppress
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_S = 2.0
STAGES = ("start", "search", "comparison")
VICTIMS = ("program by SIGKILL", "program by SIGHUP", "program by SIGQUIT", "a process of its")
PROGRAM = textwrap.dedent("""
    import os, signal, sys, time
    from pathlib import Path
    from autotune import Asked, Budget, CallableEvaluator, Choice, Compare, Integer, RandomSearch, Space, tune

    folder = Path(sys.argv[1])

    def build(config):
        import os, subprocess, threading, time

        def leave():
            what = config["leaves"]
            if what == "a thread":
                threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
            elif what == "a child" and os.fork() == 0:
                time.sleep(1000)
            elif what == "a daemon" and os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.closerange(0, 256)
                    time.sleep(1000)
                os._exit(0)
            elif what == "a program":
                command = ["sleep", "1000." + os.environ["AUTOTUNE_MARK"]]
                subprocess.Popen(["setsid", *command], env={"PATH": os.environ["PATH"]})

        time.sleep(0.02)
        if config["n"] % 2:
            leave()
        called = []

        def kernel():
            if not called and config["n"] % 2 == 0:
                leave()
            called.append(1)
            time.sleep(0.001)

        return kernel

    def make_args():
        (folder / "start").touch()
        time.sleep(0.1)
        return ()

    def watch(search, event):
        if isinstance(event, Asked):
            (folder / ("comparison" if isinstance(event.task, Compare) else "search")).touch()

    if __name__ == "__main__":
        for number in (signal.SIGHUP, signal.SIGQUIT):  # a shell lets background jobs ignore them
            signal.signal(number, signal.SIG_DFL)
        space = Space(
            {"leaves": Choice(["nothing", "a thread", "a child", "a daemon", "a program"]), "n": Integer(0, 9)},
            default={"leaves": "nothing", "n": 0},
        )
        evaluator = CallableEvaluator(build, make_args=make_args, workers=3, warmup_ms=1, target_ms=8)
        settings = {"verify_rounds": 400 if sys.argv[2] == "comparison" else 5}
        budget = Budget(evaluations=6 if sys.argv[2] == "comparison" else 30)
        tune(space, evaluator, RandomSearch(), budget=budget, settings=settings, progress=watch, journal=False)
        (folder / "done").touch()
""")


def living(mark: str) -> list[int]:
    """The processes that carry the mark, in their environment or their command, and are not dead."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and int(process.name) != os.getpid():
                told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in told and state not in "ZX":
                    found.append(int(process.name))
    return found


def wait_for(condition, seconds: float) -> bool:
    """Whether it comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def kill_once(stage: str, victim: str, dice: random.Random) -> str:
    """One kill; what is wrong afterwards, or nothing."""
    mark = f"{dice.randrange(10**12):012d}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "program.py"
        script.write_text(PROGRAM)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTOTUNE_MARK": mark}
        with open(folder / "errors", "wb") as errors:
            program = subprocess.Popen(
                [sys.executable, str(script), name, stage], env=environment, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        try:
            if not wait_for((folder / stage).exists, 60):
                return f"it never came to the {stage}: {(folder / 'errors').read_text()[-300:]}"
            time.sleep(dice.uniform(0.0, 0.1 if stage == "start" else 0.4))
            if victim == "a process of its":
                others = [pid for pid in living(mark) if pid != program.pid]
                for pid in dice.sample(others, min(2, len(others))):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if program.wait(120) or not (folder / "done").exists():
                    return f"the search did not survive it: {(folder / 'errors').read_text()[-300:]}"
            else:
                program.send_signal(getattr(signal, victim.rpartition(" ")[2]))
                program.wait(10)
                if (folder / "done").exists():
                    return "it was done before it could be killed"
        finally:
            program.kill()
            program.wait()
        if wait_for(lambda: not living(mark), LEFT_S):
            return ""
        left = living(mark)
        shown = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:80].decode() for pid in left]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"{len(left)} processes are left: {shown}"


def kill_many(kills: int, seed: int) -> list[str]:
    """What went wrong in so many kills, every stage and victim in turn."""
    dice, cases = random.Random(seed), list(product(STAGES, VICTIMS))
    wrong, counts = [], Counter()
    for i in range(kills):
        stage, victim = cases[i % len(cases)]
        problem = kill_once(stage, victim, dice)
        counts[stage, victim, not problem] += 1
        if problem:
            wrong.append(f"{victim} in the {stage}: {problem}")
    for stage, victim in cases:
        clean, bad = counts[stage, victim, True], counts[stage, victim, False]
        if clean + bad:
            print(f"{stage:>10}, {victim:<20} {clean} of {clean + bad} left nothing")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = kill_many(options.kills, options.seed)
    print(f"{options.kills - len(wrong)} of {options.kills} kills left no process after {LEFT_S:g} s")
    for line in wrong:
        print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
