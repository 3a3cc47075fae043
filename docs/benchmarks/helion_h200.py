"""Helion's default autotuner beside ours inside of Helion, on four kernels: same budget, seeds and Helion's provider.

    python docs/benchmarks/helion_h200.py RESULTS.jsonl KERNEL... [--effort quick|full] [--seconds N] [--seeds N]
                                          [--strategy NAME] [--batch N] [--within N] [--side-by-side] [--plain]
                                          [--comparing N] [--comparisons N] [--keep FOLDER]

KERNEL: matmul, rms_norm, softmax, attention. For each there are Helion's search, ours, and comparisons in which the
picks and all that was the best for a while are timed again together, interleaved, on one GPU: each in three processes
(--comparisons), as where in memory things lie makes a difference that no repetition shows. Each step is a process of
its own with caches of its own and a hard time limit, writes a line to RESULTS.jsonl, and is left out if that line is
there already; with --within, so is what might not be over by then. The table is of all that the file holds.

Ours begins with `prepare()`, before it imports torch and Helion, so that the process that times configs imports them
beside it; the budget begins after the imports for both sides. --plain: without.

--side-by-side: on a machine with two GPUs both searches run at once, each on one of them with half of the cores; where
there are more, so do as many kernels as there are pairs of GPUs; with one GPU, one after the other. --comparing: what a
comparison may take, in seconds (35). --keep: a folder for the logs and journals of the steps, packed.

Where there is no GPU, small arguments and Triton's interpreter (TRITON_INTERPRET=1) rehearse it: no figure of that
means anything. (pip install 'autotune-kernels[helion]')
"""

import argparse
import json
import os
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SIDES = ("helion", "ours")
SECONDS = {"quick": 60, "full": 150}
STARTING_S, LATE_S, COMPARING_S = 30, 25, 35
"""What a step may take beyond its budget: to begin, to come to an end; and what a comparison may take."""

MOST_INCUMBENTS, ROUNDS, WITHIN, COMPARISONS = 10, 41, 1.01, 3
COMPILING_S = 0.3
"""What a compile is made to take where there is nothing to compile for."""

WRITING = threading.Lock()
WORK = Path(tempfile.gettempdir()) / "autotune-helion-h200"

HOOK = '''
import importlib.util
import sys

NAME = "torch._inductor.runtime.triton_compat"


class Finder:
    """Gives that module a name which Helion imports and torch 2.11 does not have yet."""

    looking = False

    def find_spec(self, name, path, target=None):
        if name != NAME or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.looking = False
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if not hasattr(module, "IntelGPUError"):
                module.IntelGPUError = type("IntelGPUError", (RuntimeError,), {})

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
'''
"""For every process that imports Helion, its own workers too: on the path as sitecustomize.py."""


# The steps, each in a process of its own


def tune(
    side: str, kernel: str, effort: str, seconds: int, seed: int, strategy: str, batch: int | None, plain: bool,
    written: Path,
) -> None:  # fmt: skip
    """One search. What was the best so far is written to `written` as it goes, the whole at the end."""
    prepared = side == "ours" and not plain and ready()
    import torch
    from helion_kernels import KERNELS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = KERNELS[kernel]
    settings: dict[str, Any] = {
        "autotune_effort": effort, "autotune_budget_seconds": seconds, "autotune_random_seed": seed,
        "autotune_progress_bar": False, "autotune_ignore_errors": True, **rehearsal(device, given.settings, side),
    }  # fmt: skip
    if side == "ours":
        settings["autotuner_fn"] = ours(strategy, batch, written)
    else:  # Helion counts the cores of the machine, whichever of them it may use
        settings["autotune_precompile_jobs"] = len(os.sched_getaffinity(0))
    args = given.arguments(device)
    bound = given.make(**settings).bind(args)
    watch = Watch(written, prepared)
    watch.install()
    watch.began = time.perf_counter()
    best = bound.autotune(args)
    watch.save(pick=dict(best), overdue=False)


def ready() -> bool:
    """Start the process that times configs, which imports what this one is about to import."""
    from autotune.helion import prepare

    return prepare()


def ours(strategy: str, batch: int | None, written: Path) -> Callable[..., Any]:
    """Our search, with as many configs as the budget allows whatever the effort, and a journal."""
    from autotune.core.strategies.registry import make_strategy
    from autotune.helion import autotuner

    journal, timeline = written.with_suffix(".journal"), written.with_suffix(".timeline.jsonl")
    journal.unlink(missing_ok=True)
    timeline.unlink(missing_ok=True)
    endless = {"count": None} if hasattr(make_strategy(strategy, {}), "count") else {}
    return autotuner(strategy, batch=batch, cache=False, settings=endless, journal=journal, timeline=timeline)


class Watch:
    """Sees all that the benchmark provider measures, whoever asks."""

    def __init__(self, written: Path, prepared: bool) -> None:
        self.began, self._written, self._prepared = 0.0, written, prepared
        self._evaluations = self._failed = 0
        self._incumbents: list[tuple[float, float, dict[str, Any]]] = []

    def install(self) -> None:
        from helion.autotuner.benchmark_provider import LocalBenchmarkProvider

        benchmark: Callable[..., Any] = LocalBenchmarkProvider.benchmark

        def watched(provider: Any, *args: Any, **kwargs: Any) -> Any:
            results = benchmark(provider, *args, **kwargs)
            for result in sorted(results, key=lambda r: r.completed_at):
                self._see(result)
            self.save(pick=None, overdue=True)
            return results

        LocalBenchmarkProvider.benchmark = watched

    def _see(self, result: Any) -> None:
        self._evaluations += 1
        if result.status != "ok":
            self._failed += 1
        elif not self._incumbents or result.perf < self._incumbents[-1][1]:
            at = round(result.completed_at - self.began, 2)
            self._incumbents.append((at, result.perf, dict(result.config.config)))

    def save(self, pick: dict[str, Any] | None, overdue: bool) -> None:
        """overdue: nothing was picked, so it is what was the best."""
        chosen = pick if pick is not None else self._incumbents[-1][2] if self._incumbents else None
        import torch

        found = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
            "cores": len(os.sched_getaffinity(0)), "wall_s": round(time.perf_counter() - self.began, 1),
            "evaluations": self._evaluations, "failed": self._failed, "overdue": overdue, "pick": chosen,
            "incumbents": self._incumbents, "prepared": self._prepared,
        }  # fmt: skip
        self._written.with_suffix(".new").write_text(json.dumps(found))
        self._written.with_suffix(".new").replace(self._written)


def rehearsal(device: str, own: dict[str, Any], side: str) -> dict[str, Any]:
    """Settings without a GPU, and no kernel that asks how many processors there are.

    Helion's search then does everything in its process; ours compiles in forks, where there is nothing to compile.
    """
    if device == "cuda":
        return {}
    from helion.autotuner import benchmark_provider, precompile_future
    from helion.autotuner.benchmarking import do_bench_generic

    benchmark_provider.do_bench = lambda fn, return_mode="median", **how: do_bench_generic(
        fn, warmup=1, rep=1, return_mode=return_mode
    )
    precompile_future.make_precompiler = lambda *kernel: lambda *args, **options: partial(time.sleep, COMPILING_S)
    overrides = {**own.get("autotune_config_overrides", {}), "pid_type": "flat"}
    apart = side == "ours"
    return {
        "autotuner_fn": without_cache, "autotune_precompile": "fork" if apart else None,
        "autotune_benchmark_subprocess": apart, "autotune_config_overrides": overrides,
        "autotune_benchmark_fn": timed_here,
    }  # fmt: skip


def without_cache(kernel: Any, args: Any) -> Any:
    """Helion's default search without its cache, which wants a GPU."""
    import inspect

    from helion.autotuner import LFBOTreeSearch
    from helion.autotuner.effort_profile import get_effort_profile

    given = LFBOTreeSearch.get_kwargs_from_profile(get_effort_profile(kernel.settings.autotune_effort), kernel.settings)
    known = inspect.signature(LFBOTreeSearch.__init__).parameters
    return LFBOTreeSearch(kernel, args, **{name: value for name, value in given.items() if name in known})


def timed_here(functions: list[Callable[[], Any]], repeat: int = 1, desc: str | None = None) -> list[float]:
    """Milliseconds of each, once."""
    times = []
    for function in functions:
        began = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - began))
    return times


def compare(kernel: str, runs: list[dict[str, Any]], seconds: int, written: Path) -> None:
    """All picks and incumbents of these runs, timed again: by the text of a config, the median and its interval."""
    import torch
    from helion import Config
    from helion_kernels import KERNELS

    from autotune import Timed
    from autotune.backends.helion.benchmarks import make_sampler, open_device, side_by_side
    from autotune.core.keys import fold, permutation, root
    from autotune.core.statistics import median_interval

    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args = KERNELS[kernel].arguments(device)
    bound = KERNELS[kernel].make(**rehearsal(device, KERNELS[kernel].settings, "compare")).bind(args)
    texts = list(dict.fromkeys(text_of(config) for run in runs for config in configs_of(run)))
    calls, kept = [], []
    for text in texts:  # the picks come first: what there is no time to build is left out
        if len(kept) < len(runs) or time.perf_counter() - began < seconds / 2:
            function = bound.compile_config(Config.from_dict(json.loads(text)))
            function(*args)
            calls.append(lambda function=function: function(*args))
            kept.append(text)
    left = seconds - (time.perf_counter() - began)

    def order(number: int) -> list[int]:
        return [int(i) for i in permutation(fold(root(0), number), len(calls))]

    with open_device(torch.device(device, 0) if device == "cuda" else torch.device(device)) as timer:
        outcomes = side_by_side(make_sampler(timer, calls), order, ROUNDS if device == "cuda" else 3, left)
    found = {
        text: (outcome.time_ms, *median_interval(outcome.times_ms))
        for text, outcome in zip(kept, outcomes, strict=True)
        if isinstance(outcome, Timed)
    }
    written.write_text(json.dumps({"measured": found, "left_out": len(texts) - len(kept)}))


def configs_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The pick, then the last of what was the best for a while."""
    last = [config for _, _, config in run["incumbents"][-MOST_INCUMBENTS:]]
    return [run["pick"], *reversed(last)] if run["pick"] else []


def text_of(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


# Running them


class Seat(NamedTuple):
    """Where a step runs: a GPU by its number (None: whatever is visible), and the cores that it may use."""

    gpu: int | None
    cores: tuple[int, ...]


def seats(side_by_side: bool) -> list[tuple[Seat, ...]]:
    """For each kernel that is searched at a time, two with a GPU and an equal part of the cores each, where that is
    asked for and there are two GPUs; else one with all.
    """
    cores = tuple(sorted(os.sched_getaffinity(0)))
    count = gpus() // 2 * 2 if side_by_side else 0
    if not count:
        return [(Seat(None, cores),)]
    part = len(cores) // count
    each = [Seat(i, cores[i * part : (i + 1) * part]) for i in range(count)]
    return [tuple(each[i : i + 2]) for i in range(0, count, 2)]


def gpus() -> int:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def step(
    name: str, limit_s: float, call: dict[str, Any], cache: Path, seat: Seat, script: str = __file__
) -> dict[str, Any] | None:
    """Run a step in a process group of its own; what it wrote, even if it had to be ended. None: it wrote nothing."""
    env = {
        **environment(), "HELION_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "HELION_KEEP_CACHE": "1",  # so that the comparison need not compile it all again
    }  # fmt: skip
    written = WORK / f"{name.replace(':', '-')}.json"
    written.unlink(missing_ok=True)
    if seat.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = str(seat.gpu)
    call = {**call, "written": str(written), "cores": seat.cores}
    command = [sys.executable, script, "--step", json.dumps(call)]
    began = time.monotonic()
    with (WORK / f"{name.replace(':', '-')}.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    took = time.monotonic() - began
    if code or not written.exists():
        tail = (WORK / f"{name.replace(':', '-')}.log").read_text()[-2000:]
        print(f"{name}: status {code} after {took:.0f} s; the end of its log:\n{tail}", flush=True)
    if not written.exists():
        return None
    return {"step": name, "took_s": round(took, 1), **json.loads(written.read_text())}


def environment() -> dict[str, str]:
    """The variables of every step. Modules' bytecode is kept, as it is where a package was installed the usual way: a
    machine may forbid that, and each process would then translate torch and Helion anew, which takes 15 s.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(WORK), str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**known, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONPYCACHEPREFIX": str(WORK / "bytecode")}


def make_bytecode() -> None:
    """Import once what both sides import, so that the first of them is not the one to do it."""
    modules = "helion_kernels, torch._inductor.runtime.triton_helpers, autotune.backends.helion.autotuner"
    subprocess.run([sys.executable, "-c", f"import {modules}"], env=environment(), check=True)


def run_kernels(given: argparse.Namespace, ends: float) -> None:
    """As many kernels at a time as there are places for; what there is to keep is kept after each, as what ends this
    may not wait.
    """
    groups = seats(given.side_by_side)
    free: queue.SimpleQueue[tuple[Seat, ...]] = queue.SimpleQueue()
    for group in groups:
        free.put(group)

    def run(kernel: str) -> None:
        group = free.get()
        try:
            run_kernel(given.results, kernel, given, ends, group)
        finally:
            free.put(group)
            if given.keep is not None:
                keep(given.keep)

    with ThreadPoolExecutor(len(groups)) as pool:
        list(pool.map(run, given.kernels))


def run_kernel(results: Path, kernel: str, given: argparse.Namespace, ends: float, places: tuple[Seat, ...]) -> None:
    """The steps of a kernel that are not there yet and can be over in time."""
    seconds = given.seconds or SECONDS[given.effort]
    runs: list[dict[str, Any] | None] = []
    for seed in range(given.seeds):
        turned = (seed + len(kernel)) % 2  # neither side has always the same GPU, or comes always first
        sides, at = (SIDES[::-1], places[::-1]) if turned else (SIDES, places)
        calls = [partial(searched, results, side, kernel, given, seed, ends) for side in sides]
        with ThreadPoolExecutor(len(places)) as pool:
            begun = [pool.submit(call, at[i % len(at)]) for i, call in enumerate(calls)]
            runs += [future.result() for future in begun]
    found = [run for run in runs if run is not None and run["pick"]]
    if len(found) == len(runs):
        found = sorted(found, key=lambda run: run["step"])
        merged = WORK / f"merged-{kernel}"
        for run in found:  # what was compiled on this machine need not be compiled again
            cache = WORK / run["step"].replace(":", "-")
            if cache.is_dir():
                shutil.copytree(cache, merged, dirs_exist_ok=True)
        for nth in range(given.comparisons):
            call = {
                "do": "compare",
                "kernel": kernel,
                "runs": found[:: -1 if nth % 2 else 1],
                "seconds": given.comparing,
            }
            name = f"compare:{kernel}:{given.effort}:{seconds}:{given.seeds}:{nth}"
            once(results, name, STARTING_S + given.comparing, call, merged, ends, None, places[nth % len(places)])


def searched(
    results: Path, side: str, kernel: str, given: argparse.Namespace, seed: int, ends: float, seat: Seat
) -> dict[str, Any] | None:
    """The line of one search."""
    seconds = given.seconds or SECONDS[given.effort]
    name = f"{side}:{kernel}:{given.effort}:{seconds}:{seed}"
    call = {
        "do": "tune", "side": side, "kernel": kernel, "effort": given.effort, "seconds": seconds, "seed": seed,
        "strategy": given.strategy, "batch": given.batch, "plain": given.plain,
    }  # fmt: skip
    limit = STARTING_S + seconds + LATE_S
    strategy = given.strategy if side == "ours" else None
    return once(results, name, limit, call, WORK / name.replace(":", "-"), ends, strategy, seat)


def once(
    results: Path, name: str, limit: float, call: dict[str, Any], cache: Path, ends: float, strategy: str | None,
    seat: Seat,
) -> dict[str, Any] | None:  # fmt: skip
    """The line of a step: the one that is there, or a new one."""
    known = {line["step"]: line for line in lines(results)}
    if name in known:
        return known[name]
    if time.monotonic() + limit > ends:
        print(f"{name}: left out, it might take {limit:.0f} s", flush=True)
        return None
    cache.mkdir(parents=True, exist_ok=True)
    found = step(name, limit, call, cache, seat)
    if found is not None:
        found["strategy"] = strategy
        with WRITING, results.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{name}: {found['took_s']} s", flush=True)
    return found


def keep(folder: Path) -> None:
    """Logs and journals of all steps, in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    with WRITING, tarfile.open(folder / "helion-steps.tar.gz", "w:gz") as packed:
        for path in sorted([*WORK.glob("*.log"), *WORK.glob("*.journal"), *WORK.glob("*.timeline.jsonl")]):
            packed.add(path, path.name)


def lines(results: Path) -> list[dict[str, Any]]:
    """What is there already; a line that a kill has cut short is not."""
    found = []
    for text in results.read_text().splitlines() if results.exists() else ():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


# The table


def table(results: Path) -> None:
    known = {line["step"]: line for line in lines(results)}
    print(
        f"{'kernel':10s} {'effort':6s} {'seed':>4s} {'search':>24s} {'wall s':>7s} {'configs':>7s} {'failed':>6s}",
        end="",
    )
    print(f" {'pick ms':>8s} {'interval':>17s} {'pick/theirs':>22s} {'s to theirs':>11s} {'ratio':>6s}")
    compared: dict[str, list[dict[str, list[float]]]] = {}
    for name, comparison in known.items():
        kind, _, search = name.partition(":")
        if kind == "compare":
            compared.setdefault(search.rpartition(":")[0], []).append(comparison["measured"])
    for search, measured in compared.items():
        kernel, effort, seconds, seeds = search.split(":")
        for seed in range(int(seeds)):
            pair = [known[f"{side}:{kernel}:{effort}:{seconds}:{seed}"] for side in SIDES]
            rows(kernel, effort, seed, pair, measured)


def rows(kernel: str, effort: str, seed: int, pair: list[dict[str, Any]], each: list[dict[str, list[float]]]) -> None:
    """Two rows, theirs and ours, of what each comparison measured; a range is of them. s to theirs: until what was the
    best so far was as good as Helion's final pick.
    """
    measured = over_processes(each)
    theirs = measured.get(text_of(pair[0]["pick"]))
    if theirs is None:
        print(f"{kernel:10s} {effort:6s} {seed:4d} Helion's pick could not be timed again")
        return
    reached = [seconds_to(run, WITHIN * theirs[0], measured) for run in pair]
    for side, run, at in zip(("Helion LFBOTreeSearch", pair[1]["strategy"] or "default"), pair, reached, strict=False):
        now = measured.get(text_of(run["pick"]))
        shown = (
            "   failed"
            if now is None
            else f"{now[0]:8.4f} {f'{now[1]:.4f} to {now[2]:.4f}':>17s} {over(run['pick'], pair[0]['pick'], each):>22s}"
        )
        ratio = f"{reached[0] / at:6.1f}" if at and reached[0] else "     -"
        print(
            f"{kernel:10s} {effort:6s} {seed:4d} {side:>24s} {run['wall_s']:7.1f} {run['evaluations']:7d} "
            f"{run['failed']:6d} {shown} {'never' if at is None else f'{at:.1f}':>11s} {ratio}"
            + ("  overdue" if run["overdue"] else "")
        )  # fmt: skip


def over_processes(each: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """By the text of a config: the median of what the comparisons have, the lowest low and the highest high."""
    texts = dict.fromkeys(text for measured in each for text in measured)
    found = {text: [measured[text] for measured in each if text in measured] for text in texts}
    return {
        text: [statistics.median(t for t, _, _ in seen), min(low for _, low, _ in seen), max(high for *_, high in seen)]
        for text, seen in found.items()
    }


def over(ours: dict[str, Any], theirs: dict[str, Any], each: list[dict[str, list[float]]]) -> str:
    """One config's time over another's: the median of the comparisons, and their range."""
    a, b = text_of(ours), text_of(theirs)
    ratios = sorted(measured[a][0] / measured[b][0] for measured in each if a in measured and b in measured)
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})" if ratios else "-"


def seconds_to(run: dict[str, Any], target_ms: float, measured: dict[str, list[float]]) -> float | None:
    """When a search first held a config that is no slower than the target, by the measurements side by side."""
    for at, _, config in run["incumbents"]:
        now = measured.get(text_of(config))
        if now is not None and now[0] <= target_ms:
            return float(at)
    now = measured.get(text_of(run["pick"]))
    return float(run["wall_s"]) if now is not None and now[0] <= target_ms else None


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        call = json.loads(sys.argv[2])
        os.sched_setaffinity(0, call.pop("cores"))
        do, written = call.pop("do"), Path(call.pop("written"))
        {"tune": tune, "compare": compare}[do](**call, written=written)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("kernels", nargs="*", choices=["matmul", "rms_norm", "softmax", "attention"])
    parser.add_argument("--effort", choices=list(SECONDS), default="quick")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--strategy", default="gaussian_process")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--within", type=float, default=float("inf"))
    parser.add_argument("--side-by-side", action="store_true")
    parser.add_argument("--comparing", type=int, default=COMPARING_S)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    ends = time.monotonic() + given.within
    if given.kernels:
        make_bytecode()
    run_kernels(given, ends)
    table(given.results)


if __name__ == "__main__":
    main()
