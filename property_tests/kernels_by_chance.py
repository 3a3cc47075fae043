"""Sources of Triton kernels made by chance: addresses that go many ways, and writes in every spelling."""

import random

HEADER = """
import functools
import triton.language
import triton.language as tl
from triton.language import atomic_add as add_up
from triton.language import store as keep
from triton.runtime.interpreter import InterpretedFunction

language = triton.language
OPS = {"store": tl.store}


class Names:
    store = tl.store


class Tools:
    def load(self, pointer, value):
        tl.store(pointer, value)


TOOLS = Tools()


def jit(function):
    return InterpretedFunction(function)


@jit
def put(pointer, value):
    tl.store(pointer, value)


@jit
def put_backwards(value, pointer):
    put(value=value, pointer=pointer)


@jit
def put_deeper(pointer, value, times):
    if times > 0:
        put_deeper(pointer + 0, value, times - 1)
    else:
        put(pointer, value)


@jit
def put_even(pointer, value, times):
    if times > 0:
        put_odd(value, pointer, times - 1)
    else:
        tl.store(pointer, value)


@jit
def put_odd(value, pointer, times):
    put_even(times=times, value=value, pointer=pointer)


@jit
def put_first(pair, value):
    first, _ = pair
    tl.store(first, value)


@jit
def moved(pointer, by):
    return pointer + by


@jit
def either(first, second, flag):
    if flag:
        return first
    return second


def closed(over):
    @jit
    def inner(pointer, value):
        over(pointer, value)

    return inner


put_closed = closed(tl.store)
"""

WRITES = (
    "tl.store({p}, {v})",
    "tl.store(pointer={p}, value={v})",
    "tl.store(value={v}, pointer={p})",
    "tl.store({p}, mask=True, value={v})",
    'tl.store(**{{"value": {v}, "pointer": {p}}})',
    "tl.store(*({p}, {v}))",
    "tl.store(*[{p}], value={v})",
    "keep({p}, {v})",
    "keep(value={v}, pointer={p})",
    "triton.language.store({p}, {v})",
    "language.store(value={v}, pointer={p})",
    'getattr(tl, "store")({p}, {v})',
    'getattr(tl, "st" + "ore")({p}, {v})',
    "Names.store({p}, {v})",
    'OPS["store"](value={v}, pointer={p})',
    "TOOLS.load({p}, {v})",
    "tools = TOOLS; tools.load({p}, {v})",
    "tl.tensor.store({p}, {v})",
    "tl.tensor.store(value={v}, self={p})",
    "({p}).store({v})",
    "method = ({p}).store; method({v})",
    "functools.partial(tl.store, {p})({v})",
    "functools.partial(tl.store, value={v})(pointer={p})",
    "(lambda value, pointer: tl.store(pointer, value))({v}, {p})",
    "write = tl.store; write({p}, {v})",
    "write = keep if n > 0 else tl.store; write(value={v}, pointer={p})",
    "[tl.store(q, {v}) for q in ({p},)]",
    "list(map(tl.store, [{p}], [{v}]))",
    "tl.atomic_add({p}, {v})",
    "tl.atomic_add(val={v}, pointer={p})",
    "add_up(val={v}, pointer={p})",
    "tl.atomic_xchg(sem=None, val={v}, pointer={p})",
    "({p}).atomic_add({v})",
    "put({p}, {v})",
    "put(value={v}, pointer={p})",
    'put(**{{"value": {v}, "pointer": {p}}})',
    "put(*({p}, {v}))",
    "put_backwards({v}, {p})",
    "put_backwards(pointer={p}, value={v})",
    "put_deeper({p}, {v}, 2)",
    "put_even({p}, {v}, 3)",
    "put_first(({p}, {v}), {v})",
    "put_closed({p}, {v})",
)
"""p: the address. v: the value."""

MOVES = (
    "q = {x}",
    "q = {x} + 1",
    "q = {x}; q += 1",
    "q = 1 + {x}",
    "q = moved({x}, 1)",
    "q = moved(by=1, pointer={x})",
    "q = either({x}, {y}, n > 0)",
    "q = either({y}, {x}, flag=n < 0)",
    "q = {x} if n > 0 else {y}",
    "q = ({y}, {x})[1]",
    "q = [{x}, {y}][0]",
    'q = dict(one={x}, two={y})["one"]',
    "q, r = {x}, {y}",
    "(r, q) = ({y}, {x})",
    "r, (q, s) = {y}, ({x}, {y})",
    "both = ({x}, {y}); q, r = both",
    "q, *r = {x}, {y}, {y}",
    "q = (w := {x}) + 0",
    "q = {y}; w = (q := {x})",
    "q = [one for one in ({x}, {y})][0]",
    "parts = [{y}]; parts.append({x}); q = parts[1]",
    "parts = [{y}]; parts += [{x}]; q = parts[1]",
    "parts = [{y}, {y}]; parts[1] = {x}; q = parts[1]",
    "q = {y}\n    for i in range(2):\n        q = {x}",
    "for q in ({y}, {x}):\n        pass",
    "q = {y}; i = 0\n    while i < 2:\n        q = {x}\n        i += 1",
    "q = {y}\n    if n > 0:\n        q = {x}",
    "q = {y}\n    match n:\n        case 3:\n            q = {x}",
    "match ({x}, {y}):\n        case (q, r):\n            pass",
    "def pick(one, two):\n        return one\n    q = pick({x}, {y})",
    "q = (lambda one: one + 1)({x})",
    "q = max([({x}, 1)], key=lambda one: one[1])[0]",
)
"""x: where q leads from then on. y: where it does not."""


def source(seed: int, kernels: int) -> str:
    """A module with so many kernels `k0`, `k1`, … of a, b, c, d, pointers, and n, which is 3."""
    chance = random.Random(seed)
    return HEADER + "\n".join(_kernel(f"k{i}", chance) for i in range(kernels))


def _kernel(name: str, chance: random.Random) -> str:
    lines = [f"\n@jit\ndef {name}(a, b, c, d, n):"]
    for i in range(chance.randint(1, 3)):
        here, there = chance.sample("abcd", 2)
        if chance.random() < 0.3 and i:
            here = "q"
        address = here
        if chance.random() < 0.7:
            lines.append("    " + chance.choice(MOVES).format(x=here, y=there))
            address = "q"
        value = f"tl.load({chance.choice('abcd')} + 2) + {i + 1}"
        write = chance.choice(WRITES).format(p=chance.choice((address, f"{address} + 1")), v=value)
        lines.append("    " + write)
    return "\n".join(lines) + "\n"
