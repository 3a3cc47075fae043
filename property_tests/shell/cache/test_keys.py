"""Cache keys: equal inputs give equal keys in every process, and each field alone makes another key."""

import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autotune import CacheError
from autotune.shell.cache.keys import (
    Constant,
    Device,
    LooseKey,
    Specialization,
    StrictKey,
    Tensor,
    Versions,
    compute_digest,
    differences,
    distance,
)
from autotune.shell.cache.sources import contiguous_strides, source_digest, specialization_of, stride_class, tensor_of

NAMES = st.text("abcxyz_", min_size=1, max_size=4)
TEXTS = st.text(max_size=5)
NUMBERS = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS
TENSORS = st.builds(
    Tensor,
    st.lists(st.integers(0, 5000), max_size=3).map(tuple),
    st.sampled_from(["float16", "float32", "int8"]),
    st.sampled_from(["contiguous", "dense:1,0", "strided:ds"]),
)
SPECIALIZATIONS = st.builds(
    Specialization,
    st.dictionaries(NAMES, TENSORS | st.builds(Constant, VALUES), max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
DEVICES = st.builds(
    Device, kind=st.sampled_from(["cuda", "hip", "cpu"]), name=TEXTS, architecture=TEXTS, units=st.integers(0, 200)
)
LOOSE = st.builds(
    LooseKey, kernel=TEXTS, source=TEXTS, specialization=SPECIALIZATIONS, device=DEVICES, space=TEXTS,
    extra=st.dictionaries(NAMES, TEXTS, max_size=2),
)  # fmt: skip
STRICT = st.builds(StrictKey, LOOSE, st.builds(Versions, torch=TEXTS, triton=TEXTS, driver=TEXTS, autotune=TEXTS))

TENSOR = Tensor((64, 32), "float16", "contiguous")
KEY = StrictKey(
    LooseKey(
        kernel="matmul",
        source="0" * 32,
        specialization=Specialization({"a": TENSOR, "b": TENSOR, "n": Constant(4)}, {"EVEN": True}),
        device=Device(kind="cuda", name="H200", architecture="sm_90", units=132),
        space="f" * 32,
        extra={"power": "700 W"},
    ),
    Versions(torch="2.9", triton="3.5", driver="580", autotune="0.1"),
)


def other(**changed: Any) -> StrictKey:
    return msgspec.structs.replace(KEY, loose=msgspec.structs.replace(KEY.loose, **changed))


def specialised(**changed: Any) -> StrictKey:
    arguments = {**KEY.loose.specialization.arguments, **changed}
    return other(specialization=Specialization(arguments, {"EVEN": True}))


def device(**changed: Any) -> StrictKey:
    return other(device=msgspec.structs.replace(KEY.loose.device, **changed))


LOOSELY: dict[str, StrictKey] = {
    "kernel": other(kernel="matmul2"),
    "source": other(source="1" * 32),
    "shape": specialised(b=Tensor((64, 33), "float16")),
    "number of dimensions": specialised(b=Tensor((64, 32, 1), "float16")),
    "dtype": specialised(b=Tensor((64, 32), "bfloat16")),
    "strides": specialised(b=Tensor((64, 32), "float16", "dense:1,0")),
    "value": specialised(n=Constant(5)),
    "type of a value": specialised(n=Constant(4.0)),
    "tensor or value": specialised(n=TENSOR),
    "one more argument": specialised(c=TENSOR),
    "names of arguments": other(
        specialization=Specialization({"a": TENSOR, "c": TENSOR, "n": Constant(4)}, {"EVEN": True})
    ),
    "constant": other(specialization=Specialization(KEY.loose.specialization.arguments, {"EVEN": False})),
    "type of a constant": other(specialization=Specialization(KEY.loose.specialization.arguments, {"EVEN": 1})),
    "kind of device": device(kind="hip"),
    "name of device": device(name="H100"),
    "architecture": device(architecture="sm_100"),
    "units": device(units=66),
    "space": other(space="e" * 32),
    "extra": other(extra={"power": "600 W"}),
    "one more extra": other(extra={"power": "700 W", "density": "0.1"}),
}
STRICTLY: dict[str, StrictKey] = {
    name: msgspec.structs.replace(KEY, versions=msgspec.structs.replace(KEY.versions, **{name: "9.9"}))
    for name in Versions.__struct_fields__
}


@pytest.mark.parametrize("field", [*LOOSELY, *STRICTLY])
def test_each_field_alone_changes_the_key(field: str) -> None:
    changed = {**LOOSELY, **STRICTLY}[field]
    assert changed.digest != KEY.digest
    assert (changed.loose.digest != KEY.loose.digest) == (field in LOOSELY), "versions are no part of a loose key"
    assert len(differences(KEY, changed)) >= 1
    if field in LOOSELY:
        assert distance(KEY.loose, changed.loose) > 0


def test_every_field_is_among_those_tried() -> None:
    """A field that is added to a key must be added to the list above."""
    assert set(LooseKey.__struct_fields__) == {"kernel", "source", "specialization", "device", "space", "extra"}
    assert set(Specialization.__struct_fields__) == {"arguments", "constants"}
    assert set(Tensor.__struct_fields__) == {"shape", "dtype", "strides"}
    assert set(Device.__struct_fields__) == {"kind", "name", "architecture", "units"}
    assert len({key.digest for key in [KEY, *LOOSELY.values(), *STRICTLY.values()]}) == 1 + len(LOOSELY) + len(STRICTLY)


@given(STRICT, STRICT)
@settings(max_examples=50)
@example(KEY, KEY)
def test_keys_are_equal_exactly_when_their_digests_are(a: StrictKey, b: StrictKey) -> None:
    same = msgspec.json.encode(a, order="deterministic") == msgspec.json.encode(b, order="deterministic")
    assert (a.digest == b.digest) == same
    assert (a.loose.digest == b.loose.digest) or a.digest != b.digest
    assert len(a.digest) == 32
    assert (differences(a, b) == ()) == same
    assert distance(a.loose, b.loose) == pytest.approx(distance(b.loose, a.loose))
    assert distance(a.loose, a.loose) == 0


@given(LOOSE, st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(key: LooseKey, random: Any) -> None:
    def shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    s = key.specialization
    again = msgspec.structs.replace(
        key,
        specialization=Specialization(shuffled(s.arguments), shuffled(s.constants)),
        extra=shuffled(key.extra),
    )
    assert again.digest == key.digest


SCRIPT = """
import json, sys
import msgspec
import numpy as np
from autotune.shell.cache.keys import StrictKey
from autotune.shell.cache.sources import source_digest
from autotune.shell.cache.sources import specialization_of
sys.path.insert(0, sys.argv[1])
import kernel_for_keys
keys = [msgspec.convert(data, StrictKey) for data in json.load(sys.stdin)]
digests = [digest for key in keys for digest in (key.loose.digest, key.digest)]
arguments = {"x": np.zeros((4, 8)), "names": {"b": 1, "a": {"d", } and 2.5}}
print(json.dumps([*digests, source_digest(kernel_for_keys.build),
                  msgspec.json.encode(specialization_of(arguments), order="deterministic").decode()]))
"""

KERNEL = """
SCALE = {scale}

def helper(x):
    return x {operator} SCALE

def build(config):
    names = {{"b", "a", "c"}}
    return lambda x: helper(x) + config["n"] + len(names)

def unused():
    return 7
"""


def in_another_process(folder: Any, keys: list[StrictKey], hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, str(folder)],  # -B: one size, one second, one .pyc
        input=json.dumps(msgspec.to_builtins(keys)),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: list[str] = json.loads(done.stdout)
    return answer


def test_equal_inputs_give_equal_keys_in_every_process(tmp_path: Any) -> None:
    (tmp_path / "kernel_for_keys.py").write_text(KERNEL.format(scale=2, operator="*"))
    keys = [KEY, *LOOSELY.values(), *STRICTLY.values()]
    answers = [in_another_process(tmp_path, keys, seed) for seed in ("0", "1", "12345")]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][: 2 * len(keys)] == [digest for key in keys for digest in (key.loose.digest, key.digest)]


def test_a_source_is_its_text_its_helpers_and_its_constants(tmp_path: Any) -> None:
    def digest(text: str) -> str:
        (tmp_path / "kernel_for_keys.py").write_text(text)
        return in_another_process(tmp_path, [KEY], "0")[-2]

    first = digest(KERNEL.format(scale=2, operator="*"))
    assert digest(KERNEL.format(scale=2, operator="*") + "\n\nOTHER = 3\n") == first, "what is not used does not count"
    assert digest(KERNEL.format(scale=2, operator="*").replace("return 7", "return 8")) == first
    assert digest(KERNEL.format(scale=3, operator="*")) != first
    assert digest(KERNEL.format(scale=2, operator="/")) != first
    assert digest(KERNEL.format(scale=2, operator="*").replace("len(names)", "1")) != first


def test_sources_of_other_kinds() -> None:
    class Compiled:
        cache_key = "abc"

    assert source_digest("a") == source_digest("a") != source_digest("b")
    assert source_digest(Compiled()) == source_digest(Compiled()) != source_digest("abc")  # type: ignore[arg-type]
    made = [eval(f"lambda x: x + {n}") for n in (1, 1, 2)]
    digests = [source_digest(function) for function in made]
    assert digests[0] == digests[1] != digests[2], "byte code, where there is no file"
    assert source_digest(np.hypot) != source_digest(np.add)
    with pytest.raises(CacheError, match="pass a key of your own"):
        source_digest(3)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_stride_classes_tell_layouts_apart(shape: list[int], data: st.DataObject) -> None:
    array = np.zeros(shape)
    assert tensor_of(array).strides == "contiguous"
    assert tuple(s // 8 for s in array.strides) == contiguous_strides(shape)
    order = data.draw(st.permutations(range(len(shape))))
    moved = array.transpose(order)
    assert tensor_of(moved).strides.startswith(("contiguous", "dense:"))
    assert (tensor_of(moved).strides == "contiguous") == bool(moved.flags.c_contiguous)
    again = np.zeros(shape).transpose(order)
    assert tensor_of(again) == tensor_of(moved)
    wide = np.zeros([*shape[:-1], shape[-1] * 16])[..., ::16]
    if wide.flags.c_contiguous:
        assert tensor_of(wide).strides == "contiguous"
    else:
        assert tensor_of(wide).strides.startswith("strided:")
    spread = np.broadcast_to(np.zeros(shape[-1:]), (3, *shape))
    assert "0" in tensor_of(spread).strides


def test_the_class_of_strides_and_not_the_strides() -> None:
    assert stride_class((8, 8), (64, 1)) == stride_class((8, 8), (128, 1)) == "strided:d1"
    assert stride_class((8, 8), (63, 1)) == "strided:s1"
    assert stride_class((8, 8), (1, 8)) == "dense:1,0"
    assert stride_class((8, 8), (8, -1)) == "strided:s-"
    assert stride_class((1, 8), (999, 1)) == "contiguous", "the stride of one element is never used"


def test_arguments_that_are_no_tensors() -> None:
    found = specialization_of((1, 2.5, None, True, "relu", [3, {"x": np.zeros(2, np.int8)}], float("inf"), 2**80))
    assert found.arguments["5.1.x"] == Tensor((2,), "int8")
    assert found.arguments["6"] == Constant("inf")
    assert found.arguments["5"] == Constant({"list": 2})
    assert specialization_of(("inf",)) != specialization_of((float("inf"),))
    assert specialization_of((str(2**80),)) != specialization_of((2**80,))
    assert specialization_of(({"a.b": 1},)) != specialization_of(({"a": {"b": 1}},))
    assert specialization_of(({1: 1},)) != specialization_of(({"1": 1},))
    assert specialization_of(([1],)) != specialization_of(((1,),))
    assert specialization_of((np.float32(1),)) != specialization_of((np.float32(2),))
    assert found.arguments["3"] == Constant(True)
    msgspec.json.encode(found)
    assert compute_digest(specialization_of((1,))) != compute_digest(specialization_of((True,)))
    with pytest.raises(CacheError, match="argument 0 is of type object"):
        specialization_of((object(),))
