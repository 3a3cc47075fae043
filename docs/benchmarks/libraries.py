"""First calls of operators of public libraries, tuned by `triton.autotune` and by ours, each in fresh processes.

    python docs/benchmarks/libraries.py OUT [--operators l2norm,layer_norm,…] [--sides triton,autotune] [--cap 200]

Needs a GPU, flash-linear-attention and Liger-Kernel. Each operator runs forward and backward in a process with empty
caches: seconds to import, seconds of the first call, milliseconds of a later step. `again` is a second process with
the caches of the first. A side that takes longer than the cap counts as the cap; `triton` may then go on for its
picks alone (`--picks-cap`), with the binaries that our side has compiled. Where both sides have picks, another
process launches both in turn, and prints the ratio of their steps. `--sides none` does only that.

With two GPUs, run both sides at the same time: one call with `--sides autotune` and one with `--sides triton`, each
with its own CUDA_VISIBLE_DEVICES and half of the cores (`taskset`), and then one with `--sides none`.
"""

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BATCH, LENGTH, HEADS, WIDTH = 2, 4096, 8, 128
ROWS, COLUMNS = 8192, 4096
IMPORT_S = 30.0
"""More than the import of a library takes; the cap counts from there."""
HOLD_CYCLES, HELD_MS = 20_000_000, 8.0
"""Cycles that the GPU is held for, some ten milliseconds, and the milliseconds in which the host must have launched."""
BATCH_MS = 2.0
OPERATORS = ("l2norm", "layer_norm", "chunk_retention", "chunk_gla", "chunk_gated_delta_rule", "chunk_kda")


def make_operator(name: str) -> Any:  # noqa: C901  # one branch an operator
    """A function without arguments that runs the operator forward and backward, and returns output and gradients."""
    import torch
    import triton

    torch.manual_seed(0)

    def leaf(*shape: int, dtype: Any = torch.bfloat16, scale: float = 1.0) -> Any:
        return (torch.randn(*shape, device="cuda", dtype=torch.float32) * scale).to(dtype).requires_grad_()

    def step(function: Any, leaves: list[Any]) -> Any:
        first = function()
        gradient = torch.randn_like(first)

        def run() -> list[Any]:
            for one in leaves:
                one.grad = None
            out = function()
            out.backward(gradient)
            return [out.detach(), *(one.grad for one in leaves)]

        return run

    heads = (BATCH, LENGTH, HEADS, WIDTH)
    if name == "l2norm":
        from fla.modules.l2norm import l2norm

        x = leaf(BATCH, LENGTH, HEADS, WIDTH)
        return lambda: step(lambda: l2norm(x), [x])
    if name == "layer_norm":
        from fla.modules import LayerNorm

        x, norm = leaf(ROWS, COLUMNS), LayerNorm(COLUMNS).cuda().to(torch.bfloat16)
        return lambda: step(lambda: norm(x), [x, *norm.parameters()])
    if name.startswith("liger_"):
        return _make_liger(name, leaf, step)
    q, k, v = leaf(*heads), leaf(*heads), leaf(*heads)
    gate = leaf(*heads, dtype=torch.float32)
    beta = leaf(*heads[:-1])
    sigmoid, log = torch.sigmoid, torch.nn.functional.logsigmoid
    if name == "chunk_retention":
        from fla.ops.retention import chunk_retention

        return lambda: step(lambda: chunk_retention(q, k, v)[0], [q, k, v])
    if name == "chunk_gla":
        from fla.ops.gla import chunk_gla

        return lambda: step(lambda: chunk_gla(q, k, v, log(gate).bfloat16())[0], [q, k, v, gate])
    if name == "chunk_gated_delta_rule":
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        g = leaf(*heads[:-1], dtype=torch.float32)

        def run() -> Any:
            return chunk_gated_delta_rule(q, k, v, log(g), sigmoid(beta), use_qk_l2norm_in_kernel=True)[0]

        # The library refuses this gradient with Triton 3.4 to 3.7.0 on Hopper, where Triton compiles it wrongly.
        refused = "3.4" <= triton.__version__ < "3.7.1" and torch.cuda.get_device_capability() == (9, 0)
        return (lambda: lambda: [run()]) if refused else (lambda: step(run, [q, k, v, g, beta]))
    if name == "chunk_kda":
        from fla.ops.kda import chunk_kda

        def run_kda() -> Any:
            return chunk_kda(q, k, v, log(gate).bfloat16(), sigmoid(beta), use_qk_l2norm_in_kernel=True)[0]

        return lambda: step(run_kda, [q, k, v, gate, beta])
    raise SystemExit(f"no operator is called {name}")


def _make_liger(name: str, leaf: Any, step: Any) -> Any:
    import torch

    if name == "liger_dyt":
        from liger_kernel.transformers.functional import liger_dyt

        x, weights = leaf(ROWS, COLUMNS), [leaf(1), leaf(COLUMNS), leaf(COLUMNS)]
        return lambda: step(lambda: liger_dyt(x, *weights), [x, *weights])
    if name == "liger_mlp":
        from liger_kernel.ops.mlp import LigerMLPFunction

        x, gate, up, down = leaf(2, 2048, 1024), leaf(4096, 1024), leaf(4096, 1024), leaf(1024, 4096)
        return lambda: step(lambda: LigerMLPFunction.apply(x, gate, up, down), [x, gate, up, down])
    if name == "liger_grpo":
        from liger_kernel.transformers.grpo_loss import triton_grpo_loss

        batch, length, words = 4, 512, 32000
        logits, old, reference = leaf(batch, length + 1, words), leaf(batch, length), leaf(batch, length)
        ids = torch.randint(words, (batch, length), device="cuda")
        advantages = torch.randn(batch, device="cuda")

        def loss() -> Any:
            return triton_grpo_loss(logits, old.detach(), reference.detach(), ids, advantages, inplace=False)[0]

        return lambda: step(loss, [logits])
    raise SystemExit(f"no operator is called {name}, of torch {torch.__version__}")


def run_one(side: str, name: str, picks: Path | None = None) -> None:
    """Print one JSON object for each of these operators, in one process."""
    began = time.perf_counter()
    import torch

    if side == "autotune":
        import autotune

        autotune.triton.install()
    for one in name.split(","):
        make = make_operator(one)
        torch.cuda.synchronize()
        imported = time.perf_counter()
        run = make()
        result = run()
        torch.cuda.synchronize()
        first = time.perf_counter()
        figures = {
            "operator": one,
            "import_s": round(imported - began, 2),
            "first_s": round(first - imported, 2),
            "step_ms": round(step_ms(run), 4),
            "norms": [float(part.float().norm()) for part in result],
        }
        print(json.dumps(figures), flush=True)
        began = time.perf_counter()
    if picks is not None:
        write_picks(picks)


def autotuners() -> dict[str, Any]:
    """All of Triton's autotuners in this process, by the names of their kernels."""
    from triton.runtime.autotuner import Autotuner

    found = [one for one in gc.get_objects() if isinstance(one, Autotuner)]
    return {f"{one.base_fn.__module__}.{one.base_fn.__qualname__}": one for one in found}


def write_picks(path: Path) -> None:
    """The configs that were found in this process, by kernel and key."""
    picks = {
        name: {str(key): str_config(config) for key, config in one.cache.items()} for name, one in autotuners().items()
    }
    path.write_text(json.dumps({name: found for name, found in picks.items() if found}))


def str_config(config: Any) -> dict[str, Any]:
    """A config's own values, and the options of its launch."""
    options = {name: getattr(config, name) for name in ("num_warps", "num_stages", "num_ctas", "maxnreg")}
    return {"values": config.kwargs, "options": options}


class Picks(dict[Any, Any]):
    """The cache of an autotuner with the configs of one side."""

    def __init__(self, found: dict[str, Any]) -> None:
        import triton

        super().__init__({key: triton.Config(one["values"], **one["options"]) for key, one in found.items()})

    def __contains__(self, key: object) -> bool:
        return super().__contains__(str(key))

    def __getitem__(self, key: object) -> Any:
        return super().__getitem__(str(key))


def compare(names: str, ours: Path, theirs: Path) -> None:
    """Print the ratio of a step with our picks to one with theirs for each of these operators, in one process."""
    for name in names.split(","):
        compare_operator(name, ours, theirs)


def compare_operator(name: str, ours: Path, theirs: Path, rounds: int = 60) -> None:
    """The steps are launched in turn in this process."""
    run = make_operator(name)()
    sides = [json.loads(path.read_text()) for path in (ours, theirs)]
    steps: list[list[float]] = [[], []]
    for number in range(-3, rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            for kernel, one in autotuners().items():
                one.cache = Picks(sides[side].get(kernel) or sides[1 - side].get(kernel, {}))
            took = step_ms(run, 3)
            if number >= 0:
                steps[side].append(took)
    ratios = sorted(a / b for a, b in zip(*steps, strict=True))
    print(
        json.dumps({"operator": name, "ratio": round(ratios[rounds // 2], 4), "steps_ms": [*map(min, steps)]}),
        flush=True,
    )


def step_ms(run: Any, repeats: int = 20) -> float:
    """The median milliseconds of one step on the GPU, which is held until the host has launched most of them.

    Short steps are timed several at once: the clock of a GPU's events counts half microseconds.
    """
    import torch

    def timed(steps: int) -> tuple[float, float]:
        """Milliseconds of a step on the GPU, and of the host to launch one."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        torch.cuda._sleep(HOLD_CYCLES)
        start.record()
        began = time.perf_counter()
        for _ in range(steps):
            run()
        launched = time.perf_counter() - began
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / steps, 1e3 * launched / steps

    timed(1)
    on_gpu, on_host = timed(1)
    steps = max(1, int(min(BATCH_MS / on_gpu, HELD_MS / on_host)))
    return sorted(timed(steps)[0] for _ in range(repeats))[repeats // 2]


def caches(folder: Path) -> dict[str, str]:
    """The environment of a process whose caches are in this folder."""
    return os.environ | {"TRITON_CACHE_DIR": str(folder / "triton"), "AUTOTUNE_CACHE_DIR": str(folder / "autotune")}


def call(side: str, name: str, folder: Path, cap_s: float) -> dict[str, Any]:
    """The figures of one process, or the cap as its first call."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--run", side, name, "--picks", str(folder / "picks.json")]
    try:
        done = subprocess.run(command, env=caches(folder), capture_output=True, text=True, timeout=cap_s + IMPORT_S)
    except subprocess.TimeoutExpired:
        return {"first_s": cap_s, "capped": True}
    log = folder / f"{name}.log"
    log.write_text(done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"first_s": time.perf_counter() - began, "failed": done.stderr.strip().splitlines()[-1:]}
    return {**json.loads(lines[-1]), "process_s": round(time.perf_counter() - began, 2)}


def find_picks(name: str, out: Path, cap_s: float) -> dict[str, Any]:
    """Let `triton` find its picks with the binaries of our side: what a cap cut off is measured, not counted."""
    folder = out / "triton" / name
    shutil.copytree(out / "autotune" / name / "triton", folder / "triton", dirs_exist_ok=True)
    found = call("triton", name, folder, cap_s)
    return {key: value for key, value in found.items() if key in ("step_ms", "norms", "capped", "failed", "process_s")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument(
        "--operators", default="l2norm,layer_norm,chunk_retention,chunk_gla,chunk_gated_delta_rule,chunk_kda"
    )
    parser.add_argument("--sides", default="autotune,triton")
    parser.add_argument("--cap", type=float, default=200.0)
    parser.add_argument("--picks-cap", type=float, default=0.0, help="seconds for the picks of a side that was capped")
    parser.add_argument("--run", nargs=2)
    parser.add_argument("--picks", type=Path)
    parser.add_argument("--compare", nargs=3)
    args = parser.parse_args()
    if args.run:
        return run_one(*args.run, args.picks)
    if args.compare:
        return compare(args.compare[0], *map(Path, args.compare[1:]))
    for name in args.operators.split(","):
        for side in () if args.sides == "none" else args.sides.split(","):
            folder = args.out / side / name
            folder.mkdir(parents=True, exist_ok=True)
            found = call(side, name, folder, args.cap)
            print(side, name, json.dumps(found), flush=True)
            if side == "autotune" and "failed" not in found:
                print(side, name, "again", json.dumps(call(side, name, folder, args.cap)), flush=True)
        picks = [args.out / side / name / "picks.json" for side in ("autotune", "triton")]
        if picks[0].exists() and not picks[1].exists() and args.picks_cap:
            print("triton", name, "picks", json.dumps(find_picks(name, args.out, args.picks_cap)), flush=True)
        if all(path.exists() for path in picks):
            command = [sys.executable, __file__, "--compare", name, *map(str, picks)]
            env = caches(args.out / "autotune" / name)
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            print(done.stdout.strip() or done.stderr[-500:], flush=True)


if __name__ == "__main__":
    main()
