"""The nearest shape: which keys may stand in for one another, and in which order."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autotune import Cache, Config, Device, LooseKey, Specialization, StrictKey, Timed
from autotune.shell.cache.entries import Measurement, make_entry, new_run
from autotune.shell.cache.keys import Argument, Constant, Tensor, Versions, only_sizes_differ
from autotune.shell.cache.nearest import describe_shapes, find_neighbour
from autotune.testing.cache_entries import numbered_entry

H200 = Device(kind="cuda", name="H200", architecture="sm_90", units=132)


def key(device: Device = H200, constants: dict[str, Any] | None = None, **arguments: Argument) -> LooseKey:
    specialization = Specialization(arguments, constants or {})
    return LooseKey(kernel="k", source="s", specialization=specialization, device=device, space="p")


def sized(n: int) -> LooseKey:
    return key(n=Constant(n))


def publish(cache: Cache, where: LooseKey, times: dict[int, float], began_at: float = 1e9) -> None:
    """A finished search: milliseconds of each config."""
    found = numbered_entry(1, times)
    run = replace(found.run, began_at=began_at)
    cache.publish(make_entry(StrictKey(where, Versions()), run, found.measurements, result=found.result))


ALIKE = [
    (sized(3000), sized(4096)),
    (key(x=Constant(0.5)), key(x=Constant(0.25))),
    (key(a=Tensor((1, 8), "float16")), key(a=Tensor((64, 8), "float16"))),
    (key(a=Tensor((), "float16", "strided:d1")), key(a=Tensor((), "float16", "strided:s1"))),
    (key(a=Tensor((), "float16", "strided:.1")), key(a=Tensor((), "float16", "strided:s1"))),
    (key(**{"s.type": Constant("i32")}), key(**{"s.type": Constant("i64, divisible by 16")})),
    (key(n=Constant(2), **{"a.alignment": Constant("not divisible by 16")}), sized(3)),
    (sized(8), replace(sized(16), space="another list of configs")),
]
UNLIKE = [
    (key(a=Tensor((), "float16")), key(a=Tensor((), "bfloat16"))),
    (key(a=Tensor((8, 8), "float16")), key(a=Tensor((8,), "float16"))),
    (key(a=Tensor((), "float16")), key(a=Tensor((), "float16", "dense:1,0"))),
    (key(causal=Constant(True)), key(causal=Constant(False))),
    (key(mode=Constant("relu")), key(mode=Constant("gelu"))),
    (key(mode=Constant(0)), key(mode=Constant(1))),
    (key(bias=Constant(None)), key(bias=Tensor((), "float16"))),
    (key(**{"s.type": Constant("i32")}), key(**{"s.type": Constant("float")})),
    (key(constants={"D": 64}), key(constants={"D": 128})),
    (sized(8), key(replace(H200, name="H100"), n=Constant(8))),
    (sized(8), replace(sized(8), source="changed")),
    (sized(8), replace(sized(8), extra={"bucket": "power_of_two"})),
]


@pytest.mark.parametrize(("a", "b"), ALIKE)
def test_keys_that_differ_in_sizes_alone(a: LooseKey, b: LooseKey) -> None:
    assert only_sizes_differ(a, b)
    assert only_sizes_differ(b, a)


@pytest.mark.parametrize(("a", "b"), UNLIKE)
def test_keys_that_differ_in_more(a: LooseKey, b: LooseKey) -> None:
    assert not only_sizes_differ(a, b)
    assert not only_sizes_differ(b, a)


def test_the_nearest_goes_first_and_its_config_must_fit(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    publish(cache, sized(64), {16: 1.0, 32: 2.0})
    publish(cache, sized(4096), {16: 4.0, 64: 2.0, 128: 3.0})
    publish(cache, key(n=Constant(3000), a=Tensor((), "float16")), {256: 1.0})

    def among(*blocks: int) -> Any:
        return find_neighbour(cache, sized(3000), lambda config: config if config["n"] in blocks else None)

    near = among(16, 32, 64, 128, 256)
    assert (near.config, near.wanted, near.shape) == (Config({"n": 64}), "n=3000", "n=4096")
    assert near.description == "no config for n=3000; uses that of n=4096 (tuned 2001-09-09), 0.45 doublings away"
    assert among(16, 128).config == Config({"n": 128}), "the fastest of that shape that fits"
    assert among(32).shape == "n=64", "nothing of the nearest fits"
    assert among(256) is None, "no other set of arguments is asked"


def test_the_next_nearest_shape_has_a_say(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    publish(cache, sized(64), {16: 1.0, 32: 1.05, 64: 3.0})
    publish(cache, sized(128), {16: 3.0, 32: 1.1, 64: 1.0})
    found = find_neighbour(cache, sized(80), lambda config: config)
    assert found is not None
    assert (found.config, found.shape, found.also) == (Config({"n": 32}), "n=64", "n=128")
    assert found.description.endswith("0.32 doublings away; of its configs the one that suits n=128, too")
    same = find_neighbour(cache, sized(65), lambda config: config)
    assert same is not None
    assert (same.config, same.also) == (Config({"n": 16}), "")


def test_a_rejected_config_and_an_unfinished_search_serve_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    publish(cache, sized(4096), {16: 1.0})
    unfinished = make_entry(
        StrictKey(sized(2999), Versions()), new_run(), (Measurement(Config({"n": 8}), Timed((1.0,) * 3)),)
    )
    cache.publish(unfinished)
    found = find_neighbour(cache, sized(3000), lambda config: config)
    assert found is not None
    assert found.shape == "n=4096"
    with pytest.warns(UserWarning, match="no longer works"):
        cache.reject(StrictKey(sized(4096), Versions()), {"n": 16}, "it hangs")
    assert find_neighbour(cache, sized(3000), lambda config: config) is None


def test_heads_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    publish(cache, sized(64), {16: 1.0})
    assert [head.key.loose for _, head in cache.heads()] == [sized(64)]
    read: list[str] = []
    decode = type(cache.stores[0]).decode
    monkeypatch.setattr(type(cache.stores[0]), "decode", lambda *args: read.append(args[1]) or decode(*args))
    publish(cache, sized(128), {16: 1.0}, began_at=2e9)
    assert [head.key.loose for _, head in cache.heads()] == [sized(128), sized(64)]
    assert len(read) == 1


def test_shapes_are_told_by_their_sizes() -> None:
    near = key(n=Constant(3), **{"s.type": Constant("i32")})
    far = key(n=Constant(16), **{"s.type": Constant("i32, divisible by 16")})
    assert describe_shapes(near, far) == ("n=3", "n=16")
    assert describe_shapes(key(**{"s.type": Constant("i32")}), key(**{"s.type": Constant("i64")}))[0] == "s.type=i32"
