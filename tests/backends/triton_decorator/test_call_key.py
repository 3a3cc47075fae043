"""The keys of a decorated call: what Triton compiles otherwise has another raw key, another canonical key, another key
on disk; calls that are the same have the same ones."""

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import autotune
from autotune.backends.triton_decorator.call_key import Calls, describe_bucket, power_of_two, rounding_rules
from autotune.core.errors import CacheError
from autotune.shell.cache.keys import compute_digest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
descriptors = pytest.importorskip("triton.tools.tensor_descriptor")


def kernel(x, y=None, z=None, KEY=None, CONST: tl.constexpr = 0):  # type: ignore[no-untyped-def]
    pass


class Pair(NamedTuple):
    x: Any
    y: Any


class Riap(NamedTuple):
    y: Any
    x: Any


class Mode(enum.IntEnum):
    ONE = 1


def doubled(x: Any) -> Any:
    return 2 * x


def tripled(x: Any) -> Any:
    return 3 * x


tripled.__qualname__ = "doubled"


def ones(dtype: Any = None, *shape: int) -> Any:
    return torch.ones(shape or (64, 64), dtype=dtype or torch.float32)


def descriptor(block: int = 16, dtype: Any = None, padding: str = "zero") -> Any:
    return descriptors.TensorDescriptor(ones(dtype), [64, 64], [64, 1], [block, 16], padding)


Made = Callable[[], Any]

KINDS: dict[str, tuple[Made, Made]] = {
    "dtypes": (ones, lambda: ones(torch.float16)),
    "strides": (ones, lambda: ones().t()),
    "broadcast": (ones, lambda: ones(None, 64, 1).expand(64, 64)),
    "alignment": (lambda: torch.ones(65)[:64], lambda: torch.ones(65)[1:]),
    "none and a tensor": (lambda: None, ones),
    "none and a number": (lambda: None, lambda: 3),
    "a number and a tensor": (lambda: 3, ones),
    "a number and a truth value": (lambda: 1, lambda: True),
    "whole and real numbers": (lambda: 2, lambda: 2.0),
    "one": (lambda: 1, lambda: 3),
    "divisible by 16": (lambda: 3, lambda: 32),
    "one and divisible by 16": (lambda: 1, lambda: 32),
    "more than 32 bits": (lambda: 3, lambda: 2**31 + 3),
    "negative and large numbers": (lambda: -3, lambda: -(2**31) - 3),
    "more than 63 bits": (lambda: 2**31 + 3, lambda: 2**63 + 3),
    "dtypes in tuples": (lambda: (ones(), ones()), lambda: (ones(), ones(torch.float16))),
    "strides in tuples": (lambda: (ones(),), lambda: (ones().t(),)),
    "none in tuples": (lambda: (None, ones()), lambda: (ones(), None)),
    "numbers in tuples": (lambda: (1,), lambda: (3,)),
    "kinds in tuples": (lambda: (3,), lambda: (3.0,)),
    "lengths of tuples": (lambda: (ones(),), lambda: (ones(), ones())),
    "nested tuples": (lambda: ((ones(),), ones()), lambda: ((ones(), ones()),)),
    "dtypes in named tuples": (lambda: Pair(ones(), 3), lambda: Pair(ones(torch.float16), 3)),
    "names of named tuples": (lambda: Pair(3, 5), lambda: Riap(3, 5)),
    "named tuples and tuples": (lambda: Pair(3, 5), lambda: (3, 5)),
    "descriptors and tensors": (descriptor, ones),
    "blocks of descriptors": (descriptor, lambda: descriptor(32)),
    "dtypes of descriptors": (descriptor, lambda: descriptor(16, torch.float16)),
    "padding of descriptors": (descriptor, lambda: descriptor(16, None, "nan")),
    "dtypes as values": (lambda: tl.float16, lambda: tl.bfloat16),
    "dtypes of two libraries": (lambda: torch.float32, lambda: tl.float32),
    "constants": (lambda: tl.constexpr(3), lambda: tl.constexpr(5)),
    "kinds of constants": (lambda: tl.constexpr(1), lambda: tl.constexpr(True)),
    "functions": (lambda: doubled, lambda: tripled),
}

VALUES: dict[str, tuple[Made, Made]] = {
    "numbers": (lambda: 3, lambda: 5),
    "a number and a truth value": (lambda: 1, lambda: True),
    "a number and a member": (lambda: 1, lambda: Mode.ONE),
    "whole and real numbers": (lambda: 1, lambda: 1.0),
    "a truth value and a real number": (lambda: True, lambda: 1.0),
    "a number and its text": (lambda: 1, lambda: "1"),
    "none and its text": (lambda: None, lambda: "None"),
    "none and false": (lambda: None, lambda: False),
    "a NaN and its text": (lambda: float("nan"), lambda: "nan"),
    "signs of zero": (lambda: 0.0, lambda: -0.0),
    "infinities": (lambda: float("inf"), lambda: -float("inf")),
    "large numbers": (lambda: 2**64, lambda: 2**64 + 1),
    "a large number and its text": (lambda: 2**64, lambda: str(2**64)),
    "tuples": (lambda: (1, 2), lambda: (2, 1)),
    "kinds in tuples": (lambda: (1,), lambda: (True,)),
    "tuples and lists": (lambda: (1,), lambda: [1]),
    "nested tuples": (lambda: ((1,), 2), lambda: ((1, 2),)),
    "named tuples": (lambda: Pair(1, 2), lambda: Riap(1, 2)),
    "dtypes": (lambda: tl.float16, lambda: tl.float32),
    "dtypes of two libraries": (lambda: torch.float32, lambda: tl.float32),
    "a dtype and its text": (lambda: torch.float32, lambda: "torch.float32"),
    "functions of one name": (lambda: doubled, lambda: tripled),
    "constants": (lambda: tl.constexpr(1), lambda: tl.constexpr(True)),
    "a constant and its value": (lambda: tl.constexpr(1), lambda: 1),
    "objects": (lambda: SimpleNamespace(a=1), lambda: SimpleNamespace(a=True)),
    "dicts": (lambda: {"a": 1}, lambda: {"a": 2}),
    "shapes": (lambda: ones(None, 64, 64), lambda: ones(None, 64, 32)),
    "dtypes of tensors": (ones, lambda: ones(torch.float16)),
}

PAIRS: dict[str, tuple[Callable[[], tuple[Any, ...]], Callable[[], tuple[Any, ...]], dict[str, Any]]] = {
    **{f"{what}, in one place": (lambda a=a: (ones(), a(), 7), lambda b=b: (ones(), b(), 7), {})  # type: ignore[misc]
       for what, (a, b) in KINDS.items()},
    **{f"{what}, in each other's place": (lambda a=a, b=b: (ones(), a(), b()), lambda a=a, b=b: (ones(), b(), a()), {})  # type: ignore[misc]
       for what, (a, b) in KINDS.items()},
    **{f"{what}, as a key": (lambda a=a: (ones(), 7, None, a()), lambda b=b: (ones(), 7, None, b()), {})  # type: ignore[misc]
       for what, (a, b) in VALUES.items()},
    **{f"{what}, as a constant": (lambda a=a: (ones(), 7, None, 3, a()), lambda b=b: (ones(), 7, None, 3, b()), {})  # type: ignore[misc]
       for what, (a, b) in VALUES.items()},
}  # fmt: skip


def keys_of(calls: Calls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, str]:
    bound = calls.bind(args, kwargs)
    return calls.raw_key(args, dict(kwargs)), bound.canonical, compute_digest(calls.specialization(bound))


@pytest.mark.parametrize("name", PAIRS)
def test_calls_that_differ_in_one_respect_have_other_keys(name: str) -> None:
    one, other, _ = PAIRS[name]
    calls = Calls(kernel, ["KEY"], {})
    first, again, second = (keys_of(calls, made(), {}) for made in (one, one, other))
    for what, a, b, c in zip(("raw", "canonical", "disk"), first, again, second, strict=True):
        assert a == b, f"{what}: made again, it is the same"
        assert hash(a) == hash(b)
        assert a != c, f"{what}: these are not the same"


@pytest.mark.parametrize("name", PAIRS)
def test_one_raw_key_leads_to_one_canonical_key(name: str) -> None:
    """Whatever the pair: what equals by its raw key equals by the other two."""
    calls = Calls(kernel, ["KEY"], {})
    found: dict[Any, tuple[Any, str]] = {}
    for made in PAIRS[name][:2]:
        for kwargs in ({}, {"num_warps": 4}, {"num_warps": 8}, {"num_warps": True}):
            raw, *others = keys_of(calls, made(), kwargs)
            assert found.setdefault(raw, tuple(others)) == tuple(others)
    assert len(found) == 8
    assert len(set(found.values())) == 8


def test_all_calls_together_are_told_apart() -> None:
    """No key of one kind equals a key of another kind by accident."""
    calls = Calls(kernel, ["KEY"], {})
    made = [one for pair in PAIRS.values() for one in pair[:2]]
    raws, canonicals, disks = zip(*(keys_of(calls, one(), {}) for one in made), strict=True)
    by_disk: dict[str, Any] = {}
    for raw, canonical, disk in zip(raws, canonicals, disks, strict=True):
        assert by_disk.setdefault(disk, canonical) == canonical
        assert raw
    assert len(set(canonicals)) == len(set(disks)) <= len(set(raws))


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "0")


class Bench:
    """A `do_bench` that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, call: Callable[[], Any], quantiles: Any = None) -> list[float]:
        self.calls += 1
        call()
        return [1.0, 2.0, 3.0]


def noted(x, y, z, KEY, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, BLOCK)
    tl.store(x + at, tl.load(x + at))


def tuned(bench: Bench, key: list[str] | None = None, **more: Any) -> Any:
    configs = [triton.Config({"BLOCK": block}) for block in (16, 32)]
    return autotune.triton(configs, key=key or [], do_bench=bench, **more)(triton.jit(noted))


def test_none_by_its_place() -> None:
    bench = Bench()
    k = tuned(bench)
    k[(1,)](ones(), 3, None, 0)
    first = bench.calls
    k[(1,)](ones(), None, 3, 0)
    assert bench.calls == 2 * first
    k[(1,)](ones(), 3, None, 0)
    k[(1,)](ones(), None, 3, 0)
    assert bench.calls == 2 * first


def test_tuples_of_tensors_on_disk() -> None:
    bench = Bench()
    tuned(bench)[(1,)](ones(), (ones(), ones()), None, 0)
    first = bench.calls
    tuned(bench)[(1,)](ones(), (ones(), ones()), None, 0)
    assert bench.calls == first, "the same is found"
    tuned(bench)[(1,)](ones(), (ones(torch.float16), ones()), None, 0)
    assert bench.calls == 2 * first


def made_bucket(step: int) -> Callable[[int], int]:
    def bucket(value: int) -> int:
        return value // step

    return bucket


def test_a_bucket_is_what_it_does_and_not_its_name() -> None:
    bench = Bench()
    tuned(bench, ["KEY"], bucket=made_bucket(10))[(1,)](ones(), 3, None, 5)
    first = bench.calls
    tuned(bench, ["KEY"], bucket=made_bucket(10))[(1,)](ones(), 3, None, 7)
    assert bench.calls == first
    tuned(bench, ["KEY"], bucket=made_bucket(100))[(1,)](ones(), 3, None, 5)
    assert bench.calls == 2 * first


def test_buckets_in_words() -> None:
    words = [
        describe_bucket(one)
        for one in ("power_of_two", [1, 2], [1, 3], made_bucket(1), made_bucket(2), {"KEY": [1, 2]})
    ]
    assert len(set(words)) == len(words)
    assert describe_bucket(made_bucket(1)) == describe_bucket(made_bucket(1))
    assert rounding_rules([1, 2], ["KEY"])["KEY"](2) == 2
    stream = open("/dev/null")  # noqa: SIM115
    with pytest.raises(CacheError, match="TextIOWrapper, of which no cache key can be made"):
        describe_bucket(lambda value: value if stream.closed else 1)


def test_what_is_not_portable_is_kept_in_this_process_only() -> None:
    bench, stream = Bench(), open("/dev/null")  # noqa: SIM115

    def bucket(value: int) -> int:
        return value if stream.closed else 1

    k = tuned(bench, ["KEY"], bucket=bucket)
    with pytest.warns(UserWarning, match="keeps its results in this process only"):
        k[(1,)](ones(), 3, None, 5)
    first = bench.calls
    k[(1,)](ones(), 3, None, 7)
    assert bench.calls == first
    with pytest.warns(UserWarning, match="in this process only"):
        tuned(bench, ["KEY"], bucket=bucket)[(1,)](ones(), 3, None, 5)
    assert bench.calls == 2 * first


def test_a_nan_in_the_key_is_one_key() -> None:
    bench = Bench()
    k = tuned(bench, ["KEY"])
    for _ in range(20):
        k[(1,)](ones(), 3, None, float("nan"))
    assert len(k.cache) == len(k._known) == len(k._resolver.by_key) == 1
    first = bench.calls
    tuned(bench, ["KEY"])[(1,)](ones(), 3, None, float("nan"))
    assert bench.calls == first, "nor is it another one in another process"
    k[(1,)](ones(), 3, None, "nan")
    assert bench.calls == 2 * first


def test_what_is_not_to_be_specialised_on_counts_by_its_width() -> None:
    calls = Calls(kernel, ["KEY"], {}, ["y"])
    digests = {keys_of(calls, (ones(), n), {})[1:] for n in (1, 3, 32, 2**31)}
    assert len(digests) == 2
    bench, configs = Bench(), [triton.Config({"BLOCK": block}) for block in (16, 32)]
    jitted = triton.jit(do_not_specialize=["y", 2])(noted)
    k = autotune.triton(configs, key=[], do_bench=bench)(jitted)
    for n in (3, 1, 32):
        k[(1,)](ones(), n, n, 0)
    assert len(k.cache) == 1
    k[(1,)](ones(), 2**31, 3, 0)
    assert len(k.cache) == 2


def test_values_that_need_no_search_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotune.backends.triton_decorator.tuned_kernel._MOST_REMEMBERED", 8)
    k = autotune.triton([triton.Config({"BLOCK": 16})], key=["KEY"])(triton.jit(noted))
    for n in range(30):
        k[(1,)](ones(), 3, None, n)
    assert len(k.cache) <= 8
    assert len(k._known) <= 8
    assert len(k._resolver.by_key) <= 8


def test_powers_of_two_round_up() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1000, -3)] == [0, 1, 2, 4, 4, 8, 1024, -3]
    assert power_of_two(True) is True
    assert power_of_two("x") == "x"
    assert power_of_two(3.5) == 3.5
