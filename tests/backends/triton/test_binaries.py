"""The needs of kernels, read off binaries that Triton has just compiled, and off damaged ones."""

import os
import re
import struct
from typing import Any

import pytest

from autotune.backends.triton.binaries import KernelResources, read_binary
from autotune.backends.triton.targets import parse_target


def compile_for(target: str, tile: int, monkeypatch: pytest.MonkeyPatch, cache: Any) -> Any:
    """A product of two tiles, compiled."""
    triton = pytest.importorskip("triton")
    pytest.importorskip("torch")
    from tests.backends.triton.kernels import tiles

    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    signature = {"x": "*fp16", "y": "*fp16", "out": "*fp32", "N": "constexpr"}
    source = triton.compiler.ASTSource(tiles, signature=signature, constexprs={"N": tile})
    return triton.compile(source, target=parse_target(target).as_triton())


@pytest.mark.parametrize(
    ("target", "tile"),
    [
        ("gfx942", 64),
        pytest.param("gfx90a", 256, marks=pytest.mark.slow),
        pytest.param("gfx942", 256, marks=pytest.mark.slow),
        pytest.param("gfx950", 128, marks=pytest.mark.slow),
        pytest.param("gfx1100", 64, marks=pytest.mark.slow),
    ],
)
def test_amds_binaries_say_what_their_assembler_says(
    target: str, tile: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    compiled = compile_for(target, tile, monkeypatch, tmp_path)
    text, binary = compiled.asm["amdgcn"], compiled.asm["hsaco"]

    def told(name: str) -> int | None:
        found = re.search(rf"\.{name}: +(\d+)", text)
        return None if found is None else int(found[1])

    expected = KernelResources(
        registers=told("vgpr_count") or 0,
        local_bytes=told("private_segment_fixed_size") or 0,
        agprs=told("agpr_count"),
        sgprs=told("sgpr_count"),
        shared_bytes=told("group_segment_fixed_size") or 0,
    )
    assert expected.registers > 0
    assert read_binary("hip", binary, "tiles") == expected
    assert read_binary("hip", binary, "another") is None
    assert read_binary("cuda", binary, "tiles") is None
    for end in range(0, len(binary), max(1, len(binary) // 200)):
        assert read_binary("hip", binary[:end], "tiles") in (None, expected)
    note = binary.index(b"amdhsa.kernels")
    for at in range(note - 30, note + 400, 7):
        read_binary("hip", binary[:at] + b"\xc1" + binary[at + 1 :], "tiles")  # a byte that MessagePack never uses


def test_a_binary_that_is_not_understood_has_no_figures() -> None:
    for blob in (b"", b"\x7fELF\x02", b"\x7fELF\x02" + bytes(200), b"\x7fELF\x01" + bytes(200), os.urandom(4096)):
        assert read_binary("cuda", blob, "k") is None
        assert read_binary("hip", blob, "k") is None
    assert read_binary("cuda", b"\x7fELF\x02" + bytes(35) + struct.pack("<Q", 10**9) + bytes(40), "k") is None
