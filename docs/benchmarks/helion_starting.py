"""Where the seconds go before a search inside of Helion has timed its first config: a time line of all its processes.

    python docs/benchmarks/helion_starting.py KERNEL... [--seconds N] [--plain] [--first N] [--keep FOLDER]

KERNEL: matmul, rms_norm, softmax, attention. For each one search of ours runs for N seconds (25), in a process of its
own with an empty cache and a hard time limit; then what this process, the one of the GPU and the compilers did is
printed, in seconds since the search began; what came before it has negative ones. --plain: without `prepare()`, so that
the process of the GPU is started by the search. --first: how many configs are followed (12). --keep: a folder for the
time lines, written as they come.

Where there is no GPU, small arguments and Triton's interpreter (TRITON_INTERPRET=1) rehearse it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helion_h200 as beside

LATE_S = 60


class Spans:
    """What this process does before the search, written to a file as it ends."""

    def __init__(self, path: Path) -> None:
        self._path, self.told = path, []  # type: ignore[var-annotated]

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.told.append({"what": what, "began": began, "ended": time.perf_counter()})
        self.write({})

    def write(self, more: dict[str, Any]) -> None:
        self._path.write_text(json.dumps({"told": self.told, **more}))


def begin(kernel: str, seconds: int, prepared: bool, written: Path, timeline: Path) -> None:
    """The step: what a program that tunes a kernel does, each part of it told."""
    spans = Spans(written)
    facts: dict[str, Any] = {"bytecode": not sys.dont_write_bytecode}
    if prepared:
        with spans.of("prepare()"):
            facts["prepared"] = beside.ready()
    with spans.of("import torch"):
        import torch
    with spans.of("import helion"):
        from helion_kernels import KERNELS
    with spans.of("import the plug-in"):
        from autotune.helion import autotuner
    facts["torch"] = torch.__version__
    with spans.of("take hold of the GPU"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        facts["device"] = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    given = KERNELS[kernel]
    with spans.of("arguments"):
        args = given.arguments(device)
    settings: dict[str, Any] = {
        "autotune_effort": "quick", "autotune_budget_seconds": seconds, "autotune_random_seed": 0,
        "autotune_progress_bar": False, "autotune_ignore_errors": True,
        **beside.rehearsal(device, given.settings, "ours"),
    }  # fmt: skip
    settings["autotuner_fn"] = autotuner(cache=False, timeline=timeline)
    with spans.of("bind"):
        bound = given.make(**settings).bind(args)
    spans.write({**facts, "search": time.perf_counter()})
    bound.autotune(args)


def show(kernel: str, found: dict[str, Any] | None, timeline: Path, first: int) -> None:
    """The table of one search, in the order in which things began."""
    from autotune.shell.timeline import Span, read_timeline

    if found is None:
        return
    print(f"{kernel}: {', '.join(f'{name} {found[name]}' for name in FACTS if name in found)}")
    began = found.get("search")
    zero = began if began is not None else found["told"][0]["began"]
    told = [
        Span(lane="before", what=part["what"], trial=-1, start_s=part["began"] - zero, end_s=part["ended"] - zero)
        for part in found["told"]
    ]
    spans = [*told, *(read_timeline(timeline) if timeline.exists() else ())]
    print(f"  {'from s':>8s} {'to s':>8s} {'took':>7s}  {'process':10s} what")
    for span in sorted(spans, key=lambda span: span.start_s):
        if span.trial < first:
            about = "" if span.trial < 0 else f" of config {span.trial}"
            print(
                f"  {span.start_s:8.2f} {span.end_s:8.2f} {span.end_s - span.start_s:7.2f}  {span.lane:10s} "
                f"{span.what}{about}"
            )
    runs = [span for span in spans if span.what == "run"]
    if runs:
        ends = [span.end_s for span in runs]
        print(f"  the first of {len(runs)} configs had been timed after {min(ends):.2f} s; in the 20 s from then on:")
        for what in ("run", "compile", "generate", "load", "settle"):
            taken = [s.end_s - s.start_s for s in spans if s.what == what and 0 <= s.start_s - min(ends) < 20]
            print(f"    {what:9s} {len(taken):4d} times, {sum(taken):6.2f} s in all")


FACTS = ("device", "torch", "bytecode", "prepared")


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        call = json.loads(sys.argv[2])
        os.sched_setaffinity(0, call.pop("cores"))
        call.pop("do")
        begin(**{**call, "written": Path(call["written"]), "timeline": Path(call["timeline"])})
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="+", choices=["matmul", "rms_norm", "softmax", "attention"])
    parser.add_argument("--seconds", type=int, default=25)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--first", type=int, default=12)
    parser.add_argument("--keep", type=Path, default=beside.WORK)
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    beside.make_bytecode()
    for kernel in given.kernels:
        name = f"starting:{kernel}{':plain' if given.plain else ''}"
        timeline = given.keep / f"{name.replace(':', '-')}.jsonl"
        timeline.unlink(missing_ok=True)
        call = {"do": "begin", "kernel": kernel, "seconds": given.seconds, "prepared": not given.plain}
        call["timeline"] = str(timeline)
        cache = beside.WORK / name.replace(":", "-")
        found = beside.step(name, given.seconds + LATE_S, call, cache, beside.seats(False)[0][0], __file__)
        show(kernel, found, timeline, given.first)


if __name__ == "__main__":
    main()
