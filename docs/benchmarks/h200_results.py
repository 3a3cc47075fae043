"""The lines of RESULTS.jsonl, written by several processes at a time, and the table that is made of them."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, result: dict[str, Any]) -> None:
    """Append one line, whole, whoever else does so; after a line that a kill has cut short, on a new one."""
    line = json.dumps(result, default=str)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        torn = size and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, ("\n" * bool(torn) + line + "\n").encode())
    finally:
        os.close(fd)
    print(line, flush=True)


def journal_of(path: Path, step: str) -> Path:
    """Where one of our searches is written down."""
    return path.with_name(f"{step.replace(':', '-')}.journal.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """What is there; a line that was cut short is not."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and "step" in line:
            found.append(line)
    return found


def table(results: list[dict[str, Any]]) -> None:
    """Of every search: configs, pick, and by the last comparison of its kernel how the pick stands to the others."""
    latest = {r["step"]: r for r in results if "killed_after_s" not in r}
    comparisons = {step.split(":")[1]: r for step, r in latest.items() if step.startswith("compare:")}
    print(
        f"{'step':26s} {'configs':>7s} {'wall s':>7s} {'pick ms':>8s} {'over best recorded':>18s} "
        f"{'over ours':>16s} {'near at s':>9s} {'busy':>5s}"
    )
    for step, result in latest.items():
        if result.get("evaluations") is None or not result.get("pick"):
            continue
        against = comparisons.get(step.split(":")[1], {})
        print(
            f"{step:26s} {result['evaluations']:7d} {result['wall_s']:7.1f} "
            f"{_number(against.get('median_ms', {}).get(step), '8.4f')} "
            f"{_interval(against.get('over best recorded', {}).get(step)):>18s} "
            f"{_interval(against.get('over ours', {}).get(step)):>16s} "
            f"{_number(against.get('near_s', {}).get(step), '9.1f')} {_number(result.get('busy_share'), '5.2f')}"
            + ("  overdue" if result.get("overdue") else "")
        )
    for kernel, one in comparisons.items():
        print(f"{kernel}: best of the recording, now {one.get('best recorded ms')} ms, then {one.get('recorded_ms')}")
    for result in results:
        if "killed_after_s" in result:
            print(f"{result['step']}: killed after {result['killed_after_s']} s")


def _number(value: float | None, form: str) -> str:
    return f"{value:{form}}" if value is not None else " " * (int(form.split(".")[0]) - 1) + "-"


def _interval(ends: list[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"
