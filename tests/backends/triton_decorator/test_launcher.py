"""Decorated kernels travel to other processes, and compile there."""

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import PowerOfTwo, Space
from autotune.backends.triton_decorator.written_arguments import find_effects

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

N = 300


def module_grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


@triton.jit
def decorated(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * 2, mask=at < n)


inner = decorated
decorated = autotune.triton(Space({"BLOCK": PowerOfTwo(32, 64)}), ["n"])(decorated)


def test_a_decorated_kernel_travels_and_is_the_same_to_triton() -> None:
    """Else what the compile workers leave in Triton's cache would not be found by who launches it."""
    from autotune.backends.triton.kernel import pack_payload
    from autotune.backends.triton_decorator.launcher import Launcher, list_functions, portable_grid
    from autotune.core.config import Config

    held = torch.zeros(N)
    grid = portable_grid(lambda meta: (held.numel() // meta["BLOCK"],))
    assert grid({"BLOCK": 100}) == (3,)
    assert portable_grid(module_grid) is module_grid
    assert portable_grid((3, 1)) == (3, 1)
    launcher = Launcher(
        kernel=inner, grid=grid, constants={"dtype": tl.float32}, listed={}, functions=list_functions(inner)
    )
    packed = pack_payload({"build": launcher})
    code = textwrap.dedent(
        """
        import sys
        from autotune.backends.triton.kernel import unpack_payload
        built = unpack_payload(open(sys.argv[1], "rb").read())["build"]
        print(built.kernel.cache_key, built.grid({"BLOCK": 30}), built.constants["dtype"])
        """
    )
    assert built_elsewhere(code, packed) == f"{inner.cache_key} (10,) fp32"
    assert launcher.values(Config(BLOCK=32, maxnreg=None)) == {"BLOCK": 32}


def built_elsewhere(code: str, packed: bytes) -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.write(packed)
        file.flush()
        ran = subprocess.run(
            [sys.executable, "-c", code, file.name], capture_output=True, text=True, check=False, timeout=100
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@triton.jit
def evened(a, c, n, KIND: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at) if EVEN else tl.load(a + at, mask=at < n)
    tl.store(c + at, value.to(KIND), mask=at < n)


below = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(evened)


def test_compile_workers_take_heuristics_and_types_from_the_launcher() -> None:
    from autotune import Config, TritonEvaluator
    from autotune.backends.triton_decorator.launcher import Launcher, list_functions
    from autotune.core.outcomes import Trial
    from autotune.core.search.messages import Limits

    launcher = Launcher(
        kernel=below, grid=module_grid, constants={"KIND": tl.float16}, listed={}, functions=list_functions(below)
    )
    arguments = {"a": torch.zeros(N), "c": torch.zeros(N), "n": N}
    tool = TritonEvaluator(build=launcher, arguments=arguments, target="sm_90", compile_workers=1)
    with tool.open_compiler(Space({"BLOCK": PowerOfTwo(32, 64)})) as session:
        session.submit([Trial(0, Config(BLOCK=64))], Limits())
        news: list[Any] = []
        while not news:
            news += session.poll(1.0)
    assert news[0].outcome.kind == "skipped", news[0].outcome
    assert news[0].outcome.details["registers"] > 0


GLUON = """
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def doubled(x, y, n, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    at = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=layout)
    gl.store(value=gl.load(x + at, mask=at < n) * 2, pointer=y + at, mask=at < n)
"""


def test_a_gluon_kernel_is_decorated_travels_and_compiles(tmp_path: Path) -> None:
    pytest.importorskip("triton.experimental.gluon")
    from autotune import Config, TritonEvaluator
    from autotune.backends.triton_decorator.launcher import Launcher, list_functions
    from autotune.backends.triton_decorator.tuned_kernel import TunedKernel
    from autotune.core.outcomes import Trial
    from autotune.core.search.messages import Limits

    path = tmp_path / "gluon_kernels.py"
    path.write_text(GLUON)
    scope: dict[str, Any] = {"__name__": "gluon_kernels"}
    exec(compile(GLUON, str(path), "exec"), scope)
    kernel = scope["doubled"]
    assert isinstance(autotune.triton([triton.Config({"BLOCK": 128})], ["n"])(kernel), TunedKernel)
    found = find_effects(kernel)
    assert found is not None
    assert found.written & {"x", "y"} == {"y"}
    launcher = Launcher(kernel=kernel, grid=module_grid, constants={}, listed={}, functions=list_functions(kernel))
    arguments = {"x": torch.zeros(N), "y": torch.zeros(N), "n": N}
    tool = TritonEvaluator(build=launcher, arguments=arguments, target="sm_90", compile_workers=1)
    with tool.open_compiler(Space({"BLOCK": PowerOfTwo(128, 256)})) as session:
        session.submit([Trial(0, Config(BLOCK=128))], Limits())
        news: list[Any] = []
        while not news:
            news += session.poll(1.0)
    assert news[0].outcome.kind == "skipped", news[0].outcome
    assert news[0].outcome.details["registers"] > 0
