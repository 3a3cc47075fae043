"""What a kernel was seen to write when it ran was found in its source before."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from property_tests.kernels_by_chance import HEADER, MOVES, WRITES, source

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

KERNELS = 60


def _module(path: Path, text: str) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _changed(kernel: Any) -> set[str] | None:
    """The arguments that are others after a run; None where Triton's interpreter refuses the spelling."""
    named = {name: torch.arange(8.0) + 10 * i for i, name in enumerate("abcd")}
    before = {name: one.clone() for name, one in named.items()}
    try:
        kernel.run(*named.values(), 3, grid=(1,), warmup=False)
    except Exception:
        return None
    return {name for name, one in named.items() if not torch.equal(one, before[name])}


def _check(kernels: dict[str, Any]) -> tuple[int, int, int]:
    """How many ran, how many arguments were written, and how many were said to be."""
    from autotune.backends.triton_decorator.written_arguments import find_effects

    effects = {
        name: find_effects(kernel) for name, kernel in kernels.items()
    }  # before Triton's interpreter alters names
    ran = written = said = 0
    for name, kernel in kernels.items():
        changed, found = _changed(kernel), effects[name]
        if changed is None:
            continue
        may = set("abcd") if found is None else found.written & set("abcd")
        assert changed <= may, f"{name} wrote {sorted(changed - may)} unseen"
        ran, written, said = ran + 1, written + len(changed), said + len(may)
    return ran, written, said


@pytest.mark.parametrize("seed", range(6))
def test_no_write_is_overlooked(seed: int, tmp_path: Path) -> None:
    module = _module(tmp_path / f"chance_{seed}.py", source(seed, KERNELS))
    ran, written, said = _check({f"k{i}": getattr(module, f"k{i}") for i in range(KERNELS)})
    assert ran > KERNELS / 3, "Triton's interpreter refuses some spellings"
    assert said < 3 * written, "if everything counts as written, this law says nothing"


def test_every_spelling_of_a_write_and_every_way_of_an_address(tmp_path: Path) -> None:
    from autotune.backends.triton_decorator.written_arguments import find_effects

    bodies = [write.format(p="a", v="tl.load(b) + 1") for write in WRITES]
    bodies += [move.format(x="a", y="b") + "\n    tl.store(q, 77.0)" for move in MOVES]
    text = HEADER + "".join(f"\n@jit\ndef k{i}(a, b, c, d, n):\n    {body}\n" for i, body in enumerate(bodies))
    module = _module(tmp_path / "spellings.py", text)
    for i, body in enumerate(bodies):  # those, too, that compile and are not interpreted
        found = find_effects(getattr(module, f"k{i}"))
        assert found is None or "a" in found.written, body
    ran, _, _ = _check({f"k{i}": getattr(module, f"k{i}") for i in range(len(bodies))})
    assert ran > 0.7 * len(bodies)


@pytest.mark.parametrize("seed", range(100, 103))
def test_a_tuning_leaves_what_one_call_leaves(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    import autotune

    monkeypatch.setenv("AUTOTUNE_CACHE_DIR", str(tmp_path / "cache"))
    module = _module(tmp_path / f"tuned_{seed}.py", source(seed, 12))
    configs = [triton.Config({}, num_warps=warps) for warps in (1, 2, 4)]

    def bench(call: Any, quantiles: Any) -> list[float]:
        for _ in range(3):
            call()
        return [1.0, 1.0, 1.0]

    same = 0
    for i in range(12):
        kernel = getattr(module, f"k{i}")
        plain, tuned = ([torch.arange(8.0) + 10 * j for j in range(4)] for _ in range(2))
        decorated = autotune.triton(configs, key=["n"], do_bench=bench, progress=False)(kernel)
        try:
            kernel.run(*plain, 3, grid=(1,), warmup=False)
        except Exception:
            continue
        decorated[(1,)](*tuned, 3)
        assert all(map(torch.equal, plain, tuned)), f"k{i}"
        same += 1
    assert same > 3
