"""What stands behind `autotune.triton`: the effects of a kernel, its digest, copies of its tensors, other processes."""

import os
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune import PowerOfTwo, Space
from autotune.backends.triton_decorator.call_key import power_of_two
from autotune.backends.triton_decorator.protected_arguments import WrittenTensors, find_written, protect
from autotune.backends.triton_decorator.written_arguments import Effects, find_effects
from autotune.shell.cache.sources import kernel_digest
from tests.support import DOCS

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

N = 300


@triton.jit
def kept(pointer, value):
    tl.store(pointer, value)


@triton.jit
def deeper(pointer, value):
    kept(pointer + 1, value)


def matmul(a, b, c, act, M: tl.constexpr, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * M + tl.arange(0, M)
    a_at, b_at = a + at[:, None], b + at[None, :]
    total = tl.zeros((M, M), tl.float32)
    for _ in range(M):
        total = tl.dot(tl.load(a_at), tl.load(b_at), total)
        a_at += M
        b_at += M
    if ACT is not None:
        total = ACT(total)
    result = total.to(c.dtype.element_ty)
    places = c + at
    tl.store(places, result, mask=at < M)


def through_helpers(x, y, z, index):  # type: ignore[no-untyped-def]
    i = tl.load(index)
    deeper(y + i, tl.load(x + i))
    kept(pointer=z, value=1.0)


def counted(lock, x):  # type: ignore[no-untyped-def]
    tl.atomic_add(lock, 1)
    while tl.atomic_cas(lock, 1, 1) != 1:
        pass


def in_blocks(x, y, n):  # type: ignore[no-untyped-def]
    block = tl.make_block_ptr(x, (n,), (1,), (0,), (16,), (0,))
    target = tl.make_tensor_descriptor(y, [n], [1], [16])
    source = block.advance((16,))
    target.store([0], tl.load(source).to(tl.float16))


def scaled_in_place(x, y):  # type: ignore[no-untyped-def]
    p = x
    v = tl.load(p) * tl.load(y)
    if v > 0:
        p += 1
    tl.store(p, v)


def picked(x, y, z, FIRST: tl.constexpr):  # type: ignore[no-untyped-def]
    out = x if FIRST else y
    tl.store(out, tl.load(z))


def through_a_table(table, x):  # type: ignore[no-untyped-def]
    target = tl.load(table).to(tl.pointer_type(tl.float16))
    tl.store(target, tl.load(x))


def with_assembly(x, y, z):  # type: ignore[no-untyped-def]
    v = tl.load(y)
    tl.inline_asm_elementwise("st.global.f32 [$1], $2;", "=r,l,r", [x, v], dtype=tl.float32, is_pure=False, pack=1)


def by_a_method_unheard_of(x, y):  # type: ignore[no-untyped-def]
    x.frobnicate(tl.load(y))


def at_the_end_of_a_loop(x, y):  # type: ignore[no-untyped-def]
    p = y
    for _ in range(3):
        tl.store(p, 1.0)
        p = x


@pytest.mark.parametrize(
    ("kernel", "written", "read"),
    [
        (matmul, "c", "a b"),
        (through_helpers, "y z", "x index"),
        (counted, "lock", "lock"),
        (in_blocks, "y", "x"),
        (scaled_in_place, "x", "x y"),
        (picked, "x y", "z"),
        (through_a_table, "table x", "table x"),
        (with_assembly, "x", "x y"),
        (by_a_method_unheard_of, "x", "x y"),
        (at_the_end_of_a_loop, "x y", ""),
    ],
)
def test_effects_are_read_from_the_source(kernel: Any, written: str, read: str) -> None:
    tensors = {"a", "b", "c", "x", "y", "z", "lock", "index", "table"}
    found = find_effects(kernel)
    assert found is not None
    assert found.written & tensors == set(written.split())
    assert found.read & tensors == set(read.split())


def test_effects_of_what_has_no_source_are_not_known() -> None:
    scope: dict[str, Any] = {}
    exec("def made(x): pass", scope)
    assert find_effects(scope["made"]) is None


def test_what_is_written_is_what_source_and_user_say() -> None:
    x, y = torch.zeros(8), torch.zeros(8)
    named = {"x": x, "y": y, "n": 3, "again": x}
    effects = Effects(frozenset({"x", "y", "n"}), frozenset({"y"}))
    assert find_written(effects, {"x": x, "y": y, "n": 3}, (), ()) == WrittenTensors(("x",), ("y",))
    assert find_written(effects, named, (), ()) == WrittenTensors((), ("x", "y")), "x is read under another name"
    assert find_written(effects, {"x": x, "y": y}, (), ("x",)) == WrittenTensors((), ("x", "y"))
    assert find_written(None, {"x": x, "y": y}, (), ()) == WrittenTensors((), ("x", "y"))
    assert find_written(None, {"x": x, "y": y}, ("y",), ()) == WrittenTensors((), ("x", "y")), (
        "nobody says that x is not"
    )


def test_an_address_that_comes_from_no_tensor_may_lead_to_any() -> None:
    x, y = torch.zeros(8), torch.zeros(8)
    stored = frozenset({frozenset({"table", "n"})})
    effects = Effects(frozenset({"table", "n"}), frozenset(), stored)
    assert find_written(effects, {"x": x, "table": y, "n": 3}, (), ()) == WrittenTensors(("table",), ())
    assert find_written(effects, {"x": x, "y": y, "table": 12345, "n": 3}, (), ()) == WrittenTensors((), ("x", "y"))
    assert find_written(effects, {"x": x, "table": None, "n": 3}, (), ()) == WrittenTensors((), ()), (
        "an optional output"
    )


def test_copies_overlap_as_the_tensors_do() -> None:
    base = torch.arange(64.0)
    named = {"whole": base, "tail": base[10:], "bits": base.view(torch.int32)[5:9], "rows": base[2:34:2]}
    named["other"] = base.clone()
    before = base.clone()
    with protect(named, WrittenTensors(("tail",), ())) as copies:
        assert all(torch.equal(copies[name], named[name]) for name in named)
        assert copies["other"] is named["other"]
        assert copies["rows"].stride() == (2,)
        for name in ("whole", "tail", "bits", "rows"):
            assert copies[name].data_ptr() != named[name].data_ptr()
            assert copies[name].data_ptr() % 256 == named[name].data_ptr() % 256
        copies["tail"][0] = 77.0
        assert copies["whole"][10] == 77.0
        copies["rows"].zero_()
        assert copies["bits"][1] == 0  # element 6
    assert torch.equal(base, before)


def fail(x: Any) -> None:
    with protect({"x": x}, WrittenTensors((), ("x",))) as named:
        named["x"].fill_(-1)
        raise RuntimeError("planted")


def test_the_tensor_of_a_descriptor_is_copied_too() -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    base = torch.arange(64.0).reshape(4, 16)
    named = {"target": TensorDescriptor.from_tensor(base, [1, 16]), "n": 3}
    written = find_written(Effects(frozenset({"target"}), frozenset()), named, (), ())
    assert written == WrittenTensors((), (), ("target",))
    with protect(named, written) as copies:
        assert torch.equal(copies["target"].base, base)
        copies["target"].base.zero_()
        copies["target"].block_shape = [2, 16]
    assert base[0, 1] == 1
    assert named["target"].block_shape == [1, 16]


def test_tensors_in_a_tuple_are_copied_too() -> None:
    x, y = torch.zeros(4), torch.ones(4)
    named = {"both": (x, 3, (y,))}
    written = find_written(Effects(frozenset({"both"}), frozenset()), named, (), ())
    with protect(named, written) as copies:
        copies["both"][0].fill_(5)
        copies["both"][2][0].fill_(5)
        assert copies["both"][1] == 3
    assert torch.equal(x, torch.zeros(4))
    assert torch.equal(y, torch.ones(4))


@pytest.mark.parametrize("fits", [True, False])
def test_tensors_hold_afterwards_what_they_held(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotune.backends.triton_decorator.protected_arguments._fits", lambda *_: fits)
    x = torch.arange(12.0).reshape(3, 4).t()
    before = x.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error" if fits else "ignore")
        with protect({"x": x}, WrittenTensors((), ("x",))) as named:
            named["x"].fill_(-1)
        with pytest.raises(RuntimeError, match="planted"):
            fail(x)
    assert torch.equal(x, before)


def test_powers_of_two_round_up() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1000, -3)] == [0, 1, 2, 4, 4, 8, 1024, -3]
    assert power_of_two(True) is True
    assert power_of_two("x") == "x"
    assert power_of_two(3.5) == 3.5


KERNEL = """
import triton
import triton.language as tl
{above}
SCALE: tl.constexpr = {scale}
@triton.jit
def helper(x):
    return x * {factor}
{decorators}
@triton.jit
def kernel(a, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(a + at, helper(tl.load(a + at)) * SCALE)
"""


def digest(folder: Path, name: str, **parts: Any) -> str:
    path = folder / f"{name}.py"
    path.write_text(KERNEL.format(**{"above": "", "scale": 2, "factor": 3, "decorators": "", **parts}))
    scope: dict[str, Any] = {"__name__": "kernels"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    kernel = scope["kernel"]
    while not hasattr(kernel, "signature"):
        kernel = kernel.fn
    return kernel_digest(kernel)


def test_a_kernel_is_known_by_its_text_and_that_of_its_helpers(tmp_path: Path) -> None:
    first = digest(tmp_path, "first")
    assert digest(tmp_path, "lower", above="# a comment\n\n\n") == first
    heuristics = "@triton.heuristics({'BLOCK': lambda args: 16})"
    assert digest(tmp_path, "decorated", decorators=heuristics) == first
    assert digest(tmp_path, "helper", factor=4) != first
    assert digest(tmp_path, "constant", scale=5) != first


SCRIPT = """
import sys
import torch, triton, triton.language as tl
import autotune

@autotune.triton([triton.Config({{"BLOCK": b}}) for b in (32, 128)], key=["n"], {more})
@triton.jit
def add(a, b, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)

a, b = torch.rand(300), torch.rand(300)
c = torch.full((300,), float("nan"))
grid = lambda meta: (triton.cdiv(a.numel(), meta["BLOCK"]),)
add[grid](a, b, c, 300)
assert torch.equal(c, a + b)
print(add.best_config.kwargs["BLOCK"], len(add.configs_timings))
"""


def start(folder: Path, more: str = "") -> "subprocess.Popen[str]":
    path = folder / "script.py"
    path.write_text(SCRIPT.format(more=more))
    own = {**os.environ, "TRITON_INTERPRET": "1", "AUTOTUNE_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own, cwd=folder
    )


def finished(process: "subprocess.Popen[str]") -> tuple[str, str]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out, err


def test_of_two_processes_that_begin_at_once_one_tunes(tmp_path: Path) -> None:
    both = [start(tmp_path) for _ in range(2)]
    found = [finished(process) for process in both]
    assert sum("tuning among 2 configs" in err for _, err in found) == 1
    assert len({out for out, _ in found}) == 1
    assert found[0][0].split()[1] == "2"
    later = finished(start(tmp_path))
    assert "tuning" not in later[1]
    assert later[0] == found[0][0]


def test_a_kernel_of_a_script_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The script's grid holds a tensor, and the kernel's name in it means what the decorator made."""
    more = 'isolation="process", reference=lambda a, b: a + b, settings={"verify_rounds": 0}'
    out, err = finished(start(tmp_path, more))
    assert out.split()[1] == "2"
    assert "2 configs in" in err
    assert "in this one" not in err, "it did not fall back"


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


def test_the_example_is_right(tmp_path: Path) -> None:
    example = DOCS / "examples" / "decorated_softmax.py"
    own = {**os.environ, "AUTOTUNE_MODE": "off", "AUTOTUNE_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([sys.executable, example], capture_output=True, text=True, env=own, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1000 columns: BLOCK_ROWS: 1, BLOCK: 1024, num_warps: 4")
    assert not list(tmp_path.iterdir())
