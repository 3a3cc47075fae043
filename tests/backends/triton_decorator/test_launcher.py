"""Decorated kernels compile in forks of this process, and are launched from the record of that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import Config, PowerOfTwo, Space
from autotune.backends.triton.messages import ArgumentName, PlainArgument
from autotune.backends.triton_decorator.written_arguments import find_effects

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from autotune.backends.triton.launches import RecordedKernel  # noqa: E402  # after the libraries that it needs
from autotune.backends.triton_decorator.launcher import Launcher  # noqa: E402
from autotune.backends.triton_decorator.tuned_kernel import TunedKernel  # noqa: E402
from tests.backends.triton_decorator.recorded import compile_here, fake_driver_here  # noqa: E402

N = 300


def module_grid(meta: Mapping[str, Any]) -> tuple[int]:
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


@triton.jit
def decorated(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * 2, mask=at < n)


inner = decorated
decorated = autotune.triton(Space({"BLOCK": PowerOfTwo(32, 64)}), ["n"])(decorated)


@triton.jit
def evened(a, c, n, KIND: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(a + at) if EVEN else tl.load(a + at, mask=at < n)
    tl.store(c + at, value.to(KIND), mask=at < n)


below = triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})(evened)


def test_compile_workers_take_heuristics_and_types_from_the_launcher() -> None:
    launcher = Launcher(kernel=below, grid=module_grid, constants={"KIND": tl.float16}, listed={})
    arguments = {"a": torch.zeros(N), "c": torch.zeros(N), "n": N}
    (compiled,) = compile_here(launcher, arguments, [Config(BLOCK=64)])
    assert compiled.kernels[0].registers > 0
    (launch,) = compiled.launches
    assert launch.grid == (5, 1, 1)
    names = [one.name for one in launch.arguments if isinstance(one, ArgumentName)]
    assert names == ["a", "c"]
    assert launch.arguments[launch_place(launch, "n")] == PlainArgument(N)


def test_constants_and_options_of_a_config_reach_the_launch() -> None:
    launcher = Launcher(kernel=inner, grid=(1,), constants={"dtype": tl.float32}, listed={})
    assert launcher.values(Config(BLOCK=32, maxnreg=None)) == {"BLOCK": 32}


def test_a_kernel_that_only_this_program_holds_is_compiled_and_launched_from_its_record() -> None:
    """A closure over a constant that is no global, as in a notebook: no other process could import it."""
    two = tl.constexpr(2)

    @triton.jit
    def held(a, c, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(c + at, tl.load(a + at, mask=at < n) * two, mask=at < n)

    a, c = torch.zeros(N), torch.zeros(N)
    launcher = Launcher(kernel=held, grid=lambda meta: (a.numel() // meta["BLOCK"],), constants={}, listed={})
    configs = [Config(BLOCK=block, num_warps=1) for block in (32, 64)]
    compiled = compile_here(launcher, {"a": a, "c": c, "n": N}, configs)
    recorded = RecordedKernel()
    other = {"a": torch.ones(N), "c": torch.ones(N), "n": N}
    with fake_driver_here() as fake:
        for config, one in zip(configs, compiled, strict=True):
            recorded.record(config, one.launches)
            recorded.call(config)(other)
        recorded.forget()
    assert [launch.grid for launch in fake.launches] == [(9, 1, 1), (4, 1, 1)]
    assert [launch.metadata.hash for launch in fake.launches] == [one.kernels[0].hash for one in compiled]
    for launch in fake.launches:
        assert launch.arguments[0] is other["a"]
        assert launch.arguments[1] is other["c"]
        assert launch.arguments[2] == N


def test_a_config_that_does_not_compile_and_one_whose_grid_fails_are_told_apart() -> None:
    launcher = Launcher(kernel=inner, grid=lambda meta: (1 // (meta["BLOCK"] - 64),), constants={}, listed={})
    arguments = {"a": torch.zeros(N), "c": torch.zeros(N), "n": N}
    uneven, grid = compile_here(launcher, arguments, [Config(BLOCK=33), Config(BLOCK=64)])
    assert uneven.compiler
    assert not grid.compiler
    assert "ZeroDivisionError" in grid.message


def test_an_argument_that_is_no_number_and_no_tensor_of_the_call_is_not_recorded() -> None:
    launcher = Launcher(kernel=inner, grid=(1,), constants={"a": torch.zeros(N)}, listed={})
    (compiled,) = compile_here(launcher, {"c": torch.zeros(N), "n": N}, [Config(BLOCK=32)])
    assert compiled.kernels
    assert compiled.launches == ()


def launch_place(launch: Any, name: str) -> int:
    return list(launch.signature).index(name)


GLUON = """
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def doubled(x, y, n, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    at = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=layout)
    gl.store(value=gl.load(x + at, mask=at < n) * 2, pointer=y + at, mask=at < n)
"""


def test_a_gluon_kernel_is_decorated_and_compiles(tmp_path: Path) -> None:
    pytest.importorskip("triton.experimental.gluon")
    path = tmp_path / "gluon_kernels.py"
    path.write_text(GLUON)
    scope: dict[str, Any] = {"__name__": "gluon_kernels"}
    exec(compile(GLUON, str(path), "exec"), scope)
    kernel = scope["doubled"]
    assert isinstance(autotune.triton([triton.Config({"BLOCK": 128})], ["n"])(kernel), TunedKernel)
    found = find_effects(kernel)
    assert found is not None
    assert found.written & {"x", "y"} == {"y"}
    launcher = Launcher(kernel=kernel, grid=module_grid, constants={}, listed={})
    arguments = {"x": torch.zeros(N), "y": torch.zeros(N), "n": N}
    (compiled,) = compile_here(launcher, arguments, [Config(BLOCK=128)])
    assert compiled.kernels[0].registers > 0
    assert compiled.launches
