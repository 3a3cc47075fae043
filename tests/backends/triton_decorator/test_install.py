"""`autotune.triton.install()` on libraries that are written here, imported before and after it.

Kernels run in Triton's interpreter, and a made-up clock says how fast they are: BLOCK=64 is the fastest. Every library
has `timed`, the blocks that were timed.
"""

import copy
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import autotune
from autotune import PlanError
from autotune.backends.triton_decorator import install as installing

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
autotuner = pytest.importorskip("triton.runtime.autotuner")

N = 300
TRITONS_RUN = autotuner.Autotuner.run

CLOCK = """
import triton
import triton.language as tl
from triton.runtime.autotuner import Autotuner

timed = []
COSTS = {16: 5.0, 32: 3.0, 64: 1.0, 128: 2.0, 256: 4.0}
running = [0]


def before(named, reset_only=False):
    running[0] = named["BLOCK"]


def do_bench(call, quantiles):
    call()
    timed.append(running[0])
    return [COSTS[running[0]]] * 3


def configs(*blocks):
    return [triton.Config({"BLOCK": block}, num_warps=4) for block in blocks]


def grid(meta):
    return (triton.cdiv(meta["n"], meta["BLOCK"]),)


clock = {"pre_hook": before, "do_bench": do_bench}
"""

KERNEL = """
@triton.jit
def {name}(a, c, n, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) * (2 if EVEN else 3), mask=at < n)
"""

PLAIN = CLOCK + "\n\n@triton.autotune(configs(16, 64, 128), key=['n'], **clock)" + KERNEL.format(name="scaled")

ACCUMULATE = """
@triton.jit
def accumulate(a, c, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(c + at, mask=at < n), mask=at < n)
"""

OWN_CACHE = (
    CLOCK
    + """
files = {}  # a config for a key, as a library finds it in its files
read = []


class CachedAutotuner(Autotuner):
    def __init__(self, fn, arg_names, configs, key, reset_to_zero, restore_value, **rest):
        super().__init__(fn, arg_names, configs, key, reset_to_zero, restore_value, **rest)
        if not self.user_defined_pre_hook and self.restore_value:

            def _pre_hook(named, reset_only=False):
                raise AssertionError("the decorator restores tensors by itself")

            self.pre_hook = _pre_hook

    def run(self, *args, **kwargs):
        named = {**dict(zip(self.arg_names, args)), **kwargs}
        key = (named["n"], *(str(one.dtype) for one in named.values() if hasattr(one, "dtype")))
        if key not in self.cache:
            read.append(key)
            block = files.get(named["n"])
            if block is not None:
                self.cache[key] = triton.Config({"BLOCK": block}, num_warps=4)
        return super().run(*args, **kwargs)


def cached_autotune(configs, key, restore_value=None, **rest):
    return lambda fn: CachedAutotuner(fn, fn.arg_names, configs, key, None, restore_value, **rest)


@cached_autotune(configs(16, 64, 128), ["n"], **clock)
""".rstrip()
    + KERNEL.format(name="scaled")
    + """

@cached_autotune(configs(16, 64), ["n"], restore_value=["c"])
""".rstrip()
    + ACCUMULATE
)


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels made here are interpreted, nothing is shown, the cache is empty, and nothing stays installed."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "0")
    yield
    autotune.triton.uninstall()
    assert autotuner.Autotuner.run is TRITONS_RUN


Write = Callable[..., ModuleType]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(source: str, name: str = "kernels_of_theirs") -> ModuleType:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)
        sys.modules.pop(name.partition(".")[0], None)


def scale(kernel: Any, n: int = N, **given: Any) -> Any:
    """One launch: the factor by which it has multiplied."""
    a, c = torch.rand(N) + 1, torch.zeros(N)
    kernel[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](a, c, n, **given)
    found = (c[:n] / a[:n]).round()
    assert torch.equal(found, found[0].expand(n))
    return int(found[0])


# What is taken over


@pytest.mark.parametrize("before", [True, False], ids=["imported before", "imported after"])
def test_a_library_is_taken_over_whenever_it_is_imported(before: bool, library: Write) -> None:
    theirs = library(PLAIN) if before else None
    autotune.triton.install()
    theirs = theirs or library(PLAIN)
    assert isinstance(theirs.scaled, autotuner.Autotuner)
    assert scale(theirs.scaled, EVEN=True) == 2
    assert set(theirs.timed) == {16, 64, 128}
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}
    (row,) = [row for row in autotune.triton.report() if row.kernel == "kernels_of_theirs.scaled"][-1:]
    assert (row.key, row.source, row.gain) == (f"n={N}, float32", "search", 5.0)
    measured = len(theirs.timed)
    assert scale(theirs.scaled, EVEN=True) == 2
    assert len(theirs.timed) == measured, "the key is known"
    theirs.scaled.cache.clear()
    autotune.triton.uninstall()
    assert scale(theirs.scaled, EVEN=True) == 2
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}


def test_results_are_where_triton_writes_them_and_go_with_the_installation(library: Write) -> None:
    theirs = library(PLAIN)
    with autotune.triton.install():
        scale(theirs.scaled, EVEN=False)
        assert [config.kwargs for config in theirs.scaled.cache.values()] == [{"BLOCK": 64}]
        assert list(theirs.scaled.cache) == [(N, "torch.float32", "torch.float32")], "the key of Triton"
        assert len(theirs.scaled.configs_timings) == 3
        assert theirs.scaled.bench_time > 0
        assert theirs.scaled.nargs is None
        theirs.scaled.warmup(torch.rand(N), torch.zeros(N), N, EVEN=False, grid=(1,))
        assert theirs.scaled.nargs is None
        with pytest.raises(TypeError, match="lacks"):
            theirs.scaled[(1,)](torch.rand(2 * N))
        assert theirs.scaled.nargs is None
    assert theirs.scaled.cache == {}
    assert type(theirs.scaled.cache) is dict
    assert installing._ATTRIBUTE not in vars(theirs.scaled)
    assert autotuner.Autotuner.run is TRITONS_RUN
    theirs.timed.clear()
    assert scale(theirs.scaled, EVEN=False) == 3
    assert set(theirs.timed) == {16, 64, 128}, "Triton tunes again"


def test_results_stay_on_disk(library: Write) -> None:
    theirs = library(PLAIN)
    for times in (3, 0):
        theirs.timed.clear()
        with autotune.triton.install():
            scale(theirs.scaled, EVEN=True)
        assert len(set(theirs.timed)) == times
    assert autotune.triton.report()[-1].source == "cache"
    assert autotune.triton.report()[-1].gain == 5.0


def test_aliases_heuristics_above_and_wrappers_lead_to_the_same_kernel(library: Write) -> None:
    theirs = library(PLAIN)
    above = CLOCK + (
        "\nfrom kernels_of_theirs import scaled as alias\n\n\n"
        "class Operator:\n"
        "    def __init__(self, kernel):\n        self.inner = kernel\n\n"
        "    def __call__(self, *args, **kwargs):\n        return self.inner[grid](*args, **kwargs)\n\n\n"
        "above = triton.heuristics({'EVEN': lambda args: args['n'] % 2 == 0})(alias)\noperator = Operator(above)\n"
    )
    other = library(above, "other_kernels")
    autotune.triton.install()
    a, c = torch.rand(N) + 1, torch.zeros(N)
    other.operator(a, c, N)
    assert torch.equal(c, a * 2)
    measured = len(theirs.timed)
    assert measured >= 3
    assert scale(other.above) == 2
    assert scale(other.alias, EVEN=True) == 2
    assert scale(theirs.scaled, EVEN=True) == 2
    assert len(theirs.timed) == measured
    assert scale(other.above, N - 1) == 3


def test_heuristics_below(library: Write) -> None:
    below = "\n\n@triton.autotune(configs(16, 64), key=['n'], **clock)\n@triton.heuristics({'EVEN': lambda args: True})"
    theirs = library(CLOCK + below + KERNEL.format(name="scaled"))
    autotune.triton.install()
    assert scale(theirs.scaled) == 2
    assert set(theirs.timed) == {16, 64}


@pytest.mark.parametrize("before", [True, False], ids=["imported before", "imported after"])
def test_a_derived_class_keeps_its_own_cache(before: bool, library: Write) -> None:
    theirs = library(OWN_CACHE) if before else None
    autotune.triton.install()
    theirs = theirs or library(OWN_CACHE)
    theirs.files[N] = 256
    assert scale(theirs.scaled, EVEN=True) == 2
    assert theirs.timed == []
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 256}, "which is on no list: it comes from their files"
    assert autotune.triton.report()[-1].source == "given"
    assert scale(theirs.scaled, 200, EVEN=True) == 2
    assert set(theirs.timed) == {16, 64, 128}
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}
    read = len(theirs.read)
    for n, block in ((N, 256), (200, 64)):
        scale(theirs.scaled, n, EVEN=True)
        assert theirs.scaled.best_config.kwargs == {"BLOCK": block}
    assert len(theirs.read) == read, "results of tunings are found in their cache, too"
    (key,) = [key for key in theirs.scaled.cache if key[0] == N]
    theirs.scaled.cache[key] = theirs.configs(32)[0]
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 32}
    autotune.triton.uninstall()
    assert [key[0] for key in theirs.scaled.cache] == [N], "what they have put there stays there"


def test_a_key_that_is_taken_out_is_tuned_anew(library: Write) -> None:
    theirs = library(PLAIN)
    autotune.triton.install()
    scale(theirs.scaled, EVEN=True)
    theirs.timed.clear()
    theirs.scaled.cache.clear()
    scale(theirs.scaled, EVEN=True)
    assert set(theirs.timed) == {16, 64, 128}


def test_hooks_of_a_class_are_left_out_as_the_decorator_restores(library: Write) -> None:
    theirs = library(OWN_CACHE)
    autotune.triton.install()
    a, c = torch.rand(N), torch.full((N,), 7.0)
    theirs.accumulate[theirs.grid](a, c, N)
    assert torch.equal(c, a + 7)
    assert len(theirs.accumulate.configs_timings) == 2


def test_settings_of_triton_reach_the_decorator(library: Write) -> None:
    source = CLOCK + (
        "\ncalls = []\n\n\ndef early(configs, named, **rest):\n"
        "    return [one for one in configs if one.kwargs['BLOCK'] != 64]\n\n\n"
        "def model(BLOCK, **rest):\n    return -BLOCK\n\n\n"
        "def after(named, exception):\n    calls.append(exception)\n\n\n"
        "prune = {'early_config_prune': early, 'perf_model': model, 'top_k': 2}\n\n\n"
        "@triton.autotune(configs(16, 32, 64, 128), ['n'], prune_configs_by=prune, post_hook=after, **clock)"
    )  # fmt: skip
    theirs = library(source + KERNEL.format(name="scaled"))
    autotune.triton.install()
    scale(theirs.scaled, EVEN=True)
    assert set(theirs.timed) == {32, 128}
    assert theirs.calls
    assert set(theirs.calls) == {None}


def test_a_derived_class_may_prune_by_itself(library: Write) -> None:
    source = CLOCK + (
        "\n\nclass Pruning(Autotuner):\n    def prune_configs(self, kwargs):\n"
        "        return [one for one in self.configs if one.kwargs['BLOCK'] * 4 < self.nargs['n']]\n\n\n"
        "def pruned(fn):\n    return Pruning(fn, fn.arg_names, configs(16, 64, 128), ['n'], None, None, **clock)\n\n\n"
        "@pruned"
    )  # fmt: skip
    theirs = library(source + KERNEL.format(name="scaled"))
    autotune.triton.install(hull=True)
    scale(theirs.scaled, EVEN=True)
    assert set(theirs.timed) == {16, 64}, "a hull would have configs that the class does not know"
    autotune.triton.uninstall()
    theirs.timed.clear()
    with autotune.triton.install():
        scale(theirs.scaled, EVEN=True)
    assert not theirs.timed, "it is found on disk"


def test_options_are_for_all_kernels_that_are_taken_over(library: Write) -> None:
    theirs = library(PLAIN.replace("configs(16, 64, 128)", "configs(16, 256)"))
    autotune.triton.install(hull=True, bucket="power_of_two", cache=None)
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}, "which is between the configs of the list"
    measured = len(theirs.timed)
    scale(theirs.scaled, N - 1, EVEN=True)
    assert len(theirs.timed) == measured, "both are rounded to 512"


def test_another_list_counts_from_then_on(library: Write) -> None:
    theirs = library(PLAIN)
    autotune.triton.install()
    scale(theirs.scaled, EVEN=True)
    theirs.scaled.configs = theirs.configs(128)
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 128}
    theirs.scaled.configs = theirs.configs(16, 32)
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 32}


def test_copies_run_as_tritons(library: Write) -> None:
    theirs = library(PLAIN)
    autotune.triton.install()
    scale(theirs.scaled, EVEN=True)
    place = vars(theirs.scaled)[installing._ATTRIBUTE]
    assert pickle.loads(cloudpickle.dumps(place)) is None
    assert type(copy.deepcopy(theirs.scaled.cache)) is dict


# What is left alone


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        ({"only": "lib_of_theirs"}, True),
        ({"only": ["lib_of_theirs.*"]}, True),
        ({"only": ["lib_of_theirs.ops"]}, True),
        ({"only": ["lib"]}, False),
        ({"only": ["lib_of_theirs"], "skip": ["*.ops"]}, False),
        ({"skip": "lib_of_theirs"}, False),
        ({"skip": ("other",)}, True),
    ],
)
def test_patterns_choose_modules(patterns: Any, taken: bool, library: Write) -> None:
    theirs = library(PLAIN, "lib_of_theirs.ops")
    autotune.triton.install(**patterns)
    known = len(autotune.triton.report())
    assert scale(theirs.scaled, EVEN=True) == 2
    assert (len(autotune.triton.report()) > known) is taken
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}, "whoever tunes"


def test_one_line_tells_what_is_taken_over_and_one_each_what_is_not(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PLAIN + (
        "\n\nclass Timing(Autotuner):\n    def _bench(self, *args, **kwargs):\n        return [1.0] * 3\n\n\n"
        "class Alone(Autotuner):\n    def run(self, *args, **kwargs):\n"
        "        return self.fn.run(*args, **kwargs, BLOCK=16)\n\n\n"
        "class Odd:\n    def __init__(self, fn):\n        self.fn, self.run = fn, fn.run\n\n\n"
        "def with_class(kind, wrap=lambda fn: fn):\n    return lambda fn: kind(\n"
        "        wrap(fn), fn.arg_names, configs(16, 64), ['n'], None, None, **clock)\n\n\n"
        "@with_class(Timing)" + KERNEL.format(name="timing") + "\n\n"
        "@with_class(Alone)" + KERNEL.format(name="alone") + "\n\n"
        "@with_class(Autotuner, Odd)" + KERNEL.format(name="odd")
    )  # fmt: skip
    monkeypatch.delenv("AUTOTUNE_PROGRESS")
    theirs = library(source, "told_kernels")
    autotune.triton.install(only="told_kernels", mode="off")
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "autotune: in the place of triton.autotune: 3 kernels of told_kernels",
        "autotune: 1 kernel of told_kernels.Alone: taken over only if that class's run calls Triton's",
    ]
    for kernel in (theirs.scaled, theirs.timing, theirs.alone, theirs.odd):
        for _ in range(2):
            assert scale(kernel, EVEN=True) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "autotune: told_kernels.timing stays under triton.autotune: Timing times configs by a method of its own,"
        " _bench",
        "autotune: told_kernels.odd stays under triton.autotune: Odd below it has no arg_names, as jitted functions do",
    ]


def test_a_class_is_told_once_its_run_has_called_tritons(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {
        "Alias": ("Theirs = Autotuner", "Theirs.run(self, *args, **kwargs)"),
        "Indirect": ("def run_of(name):\n    return getattr(Autotuner, name)", "Indirect.way(self, *args, **kwargs)"),
    }
    source = PLAIN
    for kind, (setup, call) in classes.items():
        source += (
            f"\n\n{setup}\n\n\nclass {kind}(Autotuner):\n    def way(self, *args, **kwargs):\n"
            "        return run_of('run')(self, *args, **kwargs)\n\n"
            f"    def run(self, *args, **kwargs):\n        return {call}\n\n\n"
            f"@lambda fn: {kind}(fn, fn.arg_names, configs(16, 64), ['n'], None, None, **clock)"
        ) + KERNEL.format(name=kind.lower())
    monkeypatch.delenv("AUTOTUNE_PROGRESS")
    theirs = library(source, "aliased_kernels")
    autotune.triton.install(only="aliased_kernels", mode="off")
    assert capsys.readouterr().err.splitlines() == [
        "autotune: in the place of triton.autotune: 2 kernels of aliased_kernels",
        "autotune: 1 kernel of aliased_kernels.Indirect: taken over only if that class's run calls Triton's",
    ]
    for _ in range(2):
        assert scale(theirs.alias, EVEN=True) == scale(theirs.indirect, EVEN=True) == 2
    assert capsys.readouterr().err.splitlines() == [
        "autotune: in the place of triton.autotune: the kernels of aliased_kernels.Indirect"
    ]


@pytest.mark.parametrize("reason", ["warm-up", "error"])
def test_the_arguments_of_a_call_are_forgotten_whatever_came_of_it(reason: str, library: Write) -> None:
    theirs = library(PLAIN)
    autotune.triton.install(mode="off")
    decorated = autotune.triton(theirs.configs(16, 64), key=["n"], mode="off")(theirs.scaled.fn)
    for kernel in (theirs.scaled, decorated):
        a, c = torch.rand(N), torch.zeros(N)
        if reason == "warm-up":
            kernel.run(a, c, N, EVEN=True, grid=(1,), warmup=True)
        else:
            with pytest.raises(ZeroDivisionError):
                kernel[lambda meta: (1 // 0,)](a, c, N, EVEN=True)
        assert kernel.nargs is None


def test_a_failed_config_is_printed_as_by_triton(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = library(PLAIN.replace("    timed.append", "    assert running[0] != 128, 'no luck'\n    timed.append"))
    monkeypatch.setattr(triton.knobs.autotuning, "print", True)
    autotune.triton.install()
    scale(theirs.scaled, EVEN=True)
    printed = capsys.readouterr().out.splitlines()
    (at,) = [i for i, line in enumerate(printed) if line.startswith("Autotuning failed with ")]
    assert "no luck" in printed[at]
    assert printed[at - 1].startswith("Autotuning kernel scaled with config BLOCK: 128")


def test_watchers_of_tritons_tunings_see_these(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = triton.knobs.autotuning
    if not hasattr(knobs, "listener"):
        pytest.skip("this Triton has no listener")
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(knobs, "listener", lambda **told: heard.append(told))
    monkeypatch.setattr(knobs, "print", True)
    theirs = library(PLAIN)
    autotune.triton.install()
    decorated = autotune.triton(theirs.configs(16, 64, 128), key=["n"], **theirs.clock)(theirs.scaled.fn)
    for kernel, searched in ((theirs.scaled, True), (decorated, False)):
        for _ in range(2):
            scale(kernel, EVEN=True)
        (told,) = heard
        assert told["fn"] is theirs.scaled.fn
        assert told["key"] == (N, "torch.float32", "torch.float32")
        assert told["best_config"] is kernel.best_config
        assert {config.kwargs["BLOCK"]: times[0] for config, times in told["configs_timings"].items()} == {
            16: 5.0, 64: 1.0, 128: 2.0,
        }  # fmt: skip
        assert told["cache_hit"] is not searched
        assert (told["duration"] is not None) is searched
        heard.clear()
        printed = capsys.readouterr().out.splitlines()
        if searched:
            assert sum(line.startswith("Autotuning kernel scaled with config BLOCK: ") for line in printed) == 3
            assert printed[-4:-2] == [
                "Triton autotuning for function scaled,",
                f"with key as ({N}, 'torch.float32', 'torch.float32'),",
            ]
            assert printed[-1] == f"best config selected: {kernel.best_config};"
        else:
            assert not printed


def test_under_torch_compile_a_graph_that_is_run_as_it_is_launches_through_the_installation(
    library: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)  # as where there is a GPU
    theirs = library(PLAIN.replace(", **clock", ""), "compiled_kernels")  # torch's graph takes no hooks
    launched: list[int] = []
    monkeypatch.setattr(theirs.scaled.fn, "run", lambda *args, BLOCK, **rest: launched.append(BLOCK))

    def function(a: Any) -> Any:
        c = torch.zeros_like(a)
        theirs.scaled[(1,)](a, c, N, EVEN=True)
        return c + 1

    autotune.triton.install(mode="off")
    try:
        torch.compile(function, backend="eager", fullgraph=True)(torch.rand(N))
    finally:
        torch._dynamo.reset()
    assert launched == [16]
    assert [row.source for row in autotune.triton.report() if row.kernel == "compiled_kernels.scaled"] == ["fallback"]


def test_a_library_that_comes_later_is_told_at_its_first_call(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AUTOTUNE_PROGRESS")
    autotune.triton.install(mode="off", only="later_kernels")
    theirs = library(PLAIN, "later_kernels")
    assert not capsys.readouterr().err
    for _ in range(2):
        scale(theirs.scaled, EVEN=True)
    assert capsys.readouterr().err == "autotune: in the place of triton.autotune: 1 kernel of later_kernels\n"


def test_a_list_without_a_hull_is_tried_as_a_whole(
    library: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = "[triton.Config({'BLOCK': 16}), triton.Config({'BLOCK': 64}, maxnreg=64)]"
    theirs = library(PLAIN.replace("configs(16, 64, 128)", listed))
    monkeypatch.setenv("AUTOTUNE_PROGRESS", "1")
    autotune.triton.install(hull=True)
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}
    assert "scaled: its list is tried as a whole: the configs have no common form" in capsys.readouterr().err


GLUON = """
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@triton.autotune([triton.Config({"BLOCK": block}) for block in (128, 256)], ["n"])
@gluon.jit
def doubled(x, y, n, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    at = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=layout)
    gl.store(y + at, gl.load(x + at, mask=at < n) * 2, mask=at < n)


launched = []


def instead(self, *args, grid, warmup, **kwargs):  # where there is no GPU
    launched.append(kwargs["BLOCK"])
    args[1].copy_(args[0] * 2)


type(doubled.fn).run, tritons = instead, type(doubled.fn).run
"""


@pytest.mark.parametrize("before", [True, False], ids=["imported before", "imported after"])
def test_a_library_with_gluon_kernels_is_imported_and_tuned(before: bool, library: Write) -> None:
    gluon = pytest.importorskip("triton.experimental.gluon._runtime").GluonJITFunction
    theirs = library(GLUON) if before else None
    autotune.triton.install()
    theirs = theirs or library(GLUON)
    try:
        x, y = torch.rand(N), torch.zeros(N)
        theirs.doubled[(3,)](x, y, N)
    finally:
        del gluon.run
    assert torch.equal(y, x * 2)
    assert set(theirs.launched) == {128, 256}
    assert len(theirs.doubled.configs_timings) == 2
    assert autotune.triton.report()[-1].kernel == "kernels_of_theirs.doubled"


# Installing and undoing


def test_the_latest_of_several_installations_counts(library: Write) -> None:
    theirs = library(PLAIN)
    outer = autotune.triton.install(mode="off")
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 16}
    with autotune.triton.install():
        scale(theirs.scaled, EVEN=True)
        assert theirs.scaled.best_config.kwargs == {"BLOCK": 64}
    scale(theirs.scaled, EVEN=True)
    assert theirs.scaled.best_config.kwargs == {"BLOCK": 16}
    outer.undo()
    outer.undo()
    assert autotuner.Autotuner.run is TRITONS_RUN


def test_another_tools_method_is_not_taken_away(library: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = library(PLAIN)
    autotune.triton.install()
    ours = autotuner.Autotuner.run
    seen: list[str] = []

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.base_fn.__name__)
        return ours(self, *args, **kwargs)

    monkeypatch.setattr(autotuner.Autotuner, "run", run)
    autotune.triton.uninstall()
    assert autotuner.Autotuner.run is run
    assert scale(theirs.scaled, EVEN=True) == 2
    assert seen == ["scaled"]
    assert len(theirs.scaled.configs_timings) == 3
    monkeypatch.undo()
    autotuner.Autotuner.run = TRITONS_RUN


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "never"}, "no mode is called 'never'"),
        ({"effort": "fast"}, "fast"),
        ({"isolation": "none"}, "isolation is 'none'"),
        ({"bucket": [3, 1]}, "is no bucket"),
        ({"only": 3}, "only is 3"),
        ({"hul": True}, r"install has no option 'hul'; there are only, skip, report"),
    ],
)
def test_mistakes_are_told_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises((PlanError, TypeError), match=text):
        autotune.triton.install(**options)
    assert autotuner.Autotuner.run is TRITONS_RUN


def test_without_triton_there_is_nothing_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triton.runtime.autotuner")
    monkeypatch.setattr(installing, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="Triton is not installed"):
        autotune.triton.install()


# The command, and the environment

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
assert "triton" not in sys.modules
assert "numpy" not in sys.modules, "nothing heavy before Triton"
import torch
import kernels_of_theirs as theirs
a, c = torch.rand(300), torch.zeros(300)
theirs.scaled[theirs.grid](a, c, 300, EVEN=True)
print(sys.argv[1:], theirs.scaled.best_config.kwargs, sorted(set(theirs.timed)))
"""


def run_program(tmp_path: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "kernels_of_theirs.py").write_text(PLAIN)
    (tmp_path / "program.py").write_text(PROGRAM.format(folder=str(tmp_path)))
    env = {name: value for name, value in os.environ.items() if name != "AUTOTUNE_PROGRESS"}
    return subprocess.run(words, capture_output=True, text=True, env={**env, **variables}, cwd=tmp_path)


@pytest.mark.slow  # it imports torch in a process of its own
def test_a_program_of_others_is_run_with_it_installed(tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "sitecustomize.py").write_text("import sys\nprint('theirs', file=sys.stderr)\n")
    ran = run_program(
        tmp_path, sys.executable, "-m", "autotune", "run", "--hull", "--report", "--only", "kernels_of_theirs",
        "program.py", "--only", "x", PYTHONPATH=str(tmp_path / "next"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "['--only', 'x'] {'BLOCK': 64} [16, 32, 64, 128]\n", ran.stderr
    told = ran.stderr.splitlines()
    assert told.count("theirs") == 2, "the command itself, and the program: the file of their own is executed as before"
    assert "autotune: in the place of triton.autotune: 1 kernel of kernels_of_theirs" in told
    assert any(line.startswith("autotune: 1 kernel, 1 key, ") for line in told)
    header = next(i for i, line in enumerate(told) if line.startswith("kernel "))
    assert told[header].split() == ["kernel", "key", "tuning", "source", "gain", "config"]
    assert told[header + 1].startswith("kernels_of_theirs.scaled  n=300, float32")
    assert "5x" in told[header + 1]


PROCESSES = """
import multiprocessing, subprocess, sys
from triton.runtime.autotuner import Autotuner


def state(name):
    print(name, Autotuner.run.__module__, hasattr(Autotuner.run, "__wrapped__"), flush=True)


def main():
    state("itself")
    for method in ("spawn", "fork"):
        process = multiprocessing.get_context(method).Process(target=state, args=(method,))
        process.start()
        process.join()
    ask = "from triton.runtime.autotuner import Autotuner; print('{}', hasattr(Autotuner.run, '__wrapped__'))"
    subprocess.run([sys.executable, "-c", ask.format("child")])
    subprocess.run([sys.executable, "-m", "asking"])
    subprocess.run([sys.executable, "-I", "-c", ask.format("isolated")])


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("as_module", [False, True], ids=["file", "module"])
def test_every_process_of_a_program_is_taken_over(as_module: bool, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROCESSES)
    (tmp_path / "asking.py").write_text(
        "from triton.runtime.autotuner import Autotuner\n"
        "print('module', hasattr(Autotuner.run, '__wrapped__'), flush=True)\n"
    )
    words = ["-m", "program"] if as_module else ["program.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "autotune", "run", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    module = "triton.runtime.autotuner"
    assert ran.stdout.splitlines() == [
        *(f"{name} {module} True" for name in ("itself", "spawn", "fork")),
        "child True",
        "module True",
        "isolated False",
    ], "an interpreter that ignores the environment (-I) is left alone"


@pytest.mark.slow  # it imports torch in a process of its own
def test_a_mistake_in_the_environment_does_not_stop_the_import(tmp_path: Path) -> None:
    from autotune.backends.triton_decorator.startup import FOLDER

    ran = run_program(
        tmp_path, sys.executable, "program.py", AUTOTUNE_TRITON_INSTALL="1", AUTOTUNE_TRITON_HULL="wide",
        PYTHONPATH=FOLDER,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (
        "nothing is installed in the place of triton.autotune: the environment has AUTOTUNE_TRITON_HULL" in ran.stderr
    )
    assert "[16, 64, 128]" in ran.stdout
