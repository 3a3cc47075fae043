"""The tensors of a call while it is tuned: found, copied, and restored."""

import warnings
from typing import Any

import pytest

from autotune.backends.triton_decorator.protected_arguments import WrittenTensors, find_written, protect
from autotune.backends.triton_decorator.written_arguments import Effects

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


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
