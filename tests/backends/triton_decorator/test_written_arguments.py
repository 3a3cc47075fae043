"""The arguments that kernels write and read, by their source."""

from typing import Any

import pytest

from autotune.backends.triton_decorator.written_arguments import find_effects

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


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
