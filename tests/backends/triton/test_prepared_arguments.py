"""Prepared arguments: copies to rotate through, and the reference where memory is short."""

from typing import Any

import pytest

from autotune import ArgumentSet

torch = pytest.importorskip("torch")

from autotune.backends.triton.kernel import Launch  # noqa: E402
from autotune.backends.triton.prepared_arguments import CheckSpec, PreparedArguments  # noqa: E402
from autotune.shell.evaluators import tensors  # noqa: E402


def vectors() -> tuple[Any, ...]:
    return torch.arange(8.0), torch.zeros(8)


def fill(x: Any, out: Any) -> None:
    out.copy_(x * 2)


def test_small_arguments_are_rotated() -> None:
    stage = PreparedArguments(ArgumentSet(vectors), Launch(build=lambda config: fill), CheckSpec())
    copies = stage.copies(64)
    assert len(copies) == 3, "64 bytes of arguments, and the cache should be filled twice by others"
    assert len({named["0"].data_ptr() for named in copies}) == 3
    assert len(stage.copies(0)) == 1


@pytest.mark.parametrize("returns", ["new", "its argument"])
def test_without_memory_on_the_device_copies_are_kept_on_the_host(
    returns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tensors themselves are lent to the reference, and get their values back."""
    copied, hosted = tensors.copy_tensor, []

    def full(tensor: Any, device: str | None = None, pinned: bool = False) -> Any:
        if device is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        hosted.append(tensor)
        return copied(tensor, device)

    monkeypatch.setattr(tensors, "copy_tensor", full)

    def both(x: Any, out: Any) -> Any:
        x.add_(1)
        return out + x if returns == "new" else out.copy_(x)

    x, out = vectors()
    stage = PreparedArguments(
        ArgumentSet((x, out)),
        Launch(build=lambda config: fill),
        CheckSpec(reference=both, outputs=("1",), restore_value=("1",)),
    )
    assert torch.equal(x, torch.arange(8.0)), "the reference has changed it"
    assert len(hosted) == 3 + (returns != "new")
    out.fill_(5)
    stage.clear()
    assert torch.equal(out, torch.zeros(8))
    assert torch.equal(stage._check.leaves[0].value, torch.arange(8.0) + 1)
    assert stage.find_fault(out.copy_(x + 1)) is None
