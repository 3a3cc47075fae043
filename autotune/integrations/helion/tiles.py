"""Tiles that no thread can hold, as constraints.

Helion lets a tile have up to 2**20 elements, whatever the number of warps, and begins with draws that are far smaller.
A model that may ask for anything would spend its first minutes on tiles that take the compiler a minute each and then
spill all they have. A thread has 255 registers of 32 bits: more than 256 elements of one tile are never its best.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

MOST_PER_THREAD = 256
"""Elements of one tile that a thread may have."""

ROLLED = 4
"""How many times as many where the tile may be a row that a loop goes through in parts."""

THREADS = 32
PRODUCT = re.compile(r"(?:(?P<factor>\d+)\*)?(?P<blocks>[a-z_]\w*(?:\*[a-z_]\w*)*) <= \d+")


class Named(Protocol):
    """A parameter and where it lives."""

    @property
    def name(self) -> str: ...


def per_thread(generation: Any, slots: Mapping[int, Named], base: Sequence[Any]) -> Iterator[str]:
    """A constraint for each tile of the kernel: its elements over the threads. slots: by their place in `base`."""
    warps_at = generation.num_warps_index
    if warps_at < 0:
        return
    warps = slots[warps_at].name if warps_at in slots else repr(base[warps_at])
    rolled = bool(generation.config_spec.reduction_loops)
    seen = set()
    for limit in generation.config_spec.tensor_numel_constraints:
        factor = factor_of(limit.expr_str, len(limit.block_indices))
        if factor is None:
            continue
        places = [generation.block_size_indices[i] for i in limit.block_indices]
        names = [slots[place].name for place in places if place in slots]
        for place in places:
            factor *= 1 if place in slots else base[place]
        most = MOST_PER_THREAD * THREADS * (ROLLED if rolled and factor > 1 else 1)
        text = f"{' * '.join([str(factor), *names] if factor > 1 else names)} <= {most} * {warps}"
        if names and text not in seen:
            seen.add(text)
            yield text


def factor_of(text: str, count: int) -> int | None:
    """c of a limit `c*u0*u1*… <= most` on the product of `count` block sizes; None where it has another form."""
    found = PRODUCT.fullmatch(text)
    if found is None or len(found["blocks"].split("*")) != count:
        return None
    return int(found["factor"] or 1)
