"""Wrong arguments: every public function, with every wrong type in each argument, works or raises one sentence that
names the argument. Values that are meant well, such as numpy's scalars, are taken."""

import inspect
import pathlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from msgspec import Struct

import autotune
from autotune import (
    STRATEGIES,
    AutotuneError,
    Budget,
    Cache,
    CallableEvaluator,
    Choice,
    Config,
    ConfigError,
    Device,
    EvaluatorError,
    Integer,
    KernelConfig,
    LooseKey,
    PatternSearch,
    PlanError,
    PowerOfTwo,
    RandomSearch,
    Settings,
    Space,
    SpaceError,
    Specialization,
    StrategyError,
    Ticked,
    Trial,
    WarmStart,
    load_config,
    make_plan,
    save_config,
    start,
    tune,
)
from autotune.core.keys import root
from autotune.core.search.request import request
from autotune.core.strategies.protocol import Ask, Done, Proposals
from autotune.shell.cache.keys import Versions

SPACE = Space({"a": Integer(1, 4), "b": Choice(("x", None))}, default={"a": 1, "b": "x"})
CONFIG = {"a": 1, "b": "x"}


def build(config: Config) -> Callable[[], None]:
    return lambda: None


def evaluator() -> CallableEvaluator:
    return CallableEvaluator(
        build, isolation="in_process", exact=True, warmup_ms=0, target_ms=0, min_repeats=1, max_repeats=1
    )


WRONG: list[Any] = [
    None, 3, -1, 0, 2.5, float("nan"), float("inf"), 10**30, "x", "", "\ud800", "a\0b", b"x", True, [], [1], (), {},
    {"a": 1}, {1: 2}, {1, 2}, range(3), object(), lambda: 3, int, np.int64(3), np.float32(2.5), np.array([1, 2]),
    np.array([[0, 0]]), pathlib.Path("/nonexistent/x"), SPACE, Budget(),
]  # fmt: skip
DEVICE = Device(kind="cpu", name="x")
KEY = LooseKey(kernel="k", source="s", specialization=Specialization(), device=DEVICE, space=SPACE.fingerprint)
ROWS = np.array([[0, 0]])


def fields(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def calls(folder: pathlib.Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Public functions and classes, each with arguments that fit."""
    journal, number = folder / "journal.jsonl", iter(range(10**6))
    tune(SPACE, evaluator(), "random_search", budget=Budget(evaluations=3), journal=journal, progress=False)
    save_config({"a": 1}, folder / "config.json")
    plan = make_plan(SPACE, "random_search", exact=True, budget=Budget(evaluations=3))
    search = start(plan)
    listed: dict[str, dict[str, Any]] = {
        "Space": {"parameters": {"a": Integer(1, 4)}, "constraints": ["a < 3"], "default": {"a": 1}},
        "Integer": {"low": 1, "high": 4, "step": 1, "role": "x"},
        "PowerOfTwo": {"low": 1, "high": 4, "role": "x"},
        "Boolean": {"role": "x"},
        "Choice": {"values": (1, 2), "ordered": False, "role": "x"},
        "Permutation": {"n": 3, "role": "x"},
        "ListOf": {"inner": Integer(1, 2), "length": 2, "role": "x"},
        "OptionalOf": {"inner": Integer(1, 2), "special": None, "role": "x"},
        "KernelConfig": {"num_warps": 4, "block_sizes": (16,)},
        "Tile": {"size": 64},
        "kernel_space": {
            "tiles": [(64, 64), 64], "reductions": [64], "loops": 2, "loads": 1, "stores": 1, "persistent": False,
            "device": "sm_90", "element_bytes": 2, "threads": False, "control_files": (), "user": None,
            "constraints": (), "default": None,
        },
        "Budget": {"evaluations": 3, "seconds": 3.0, "generations": 2},
        "Settings": fields(Settings()),
        "Plan": {
            "space": SPACE, "strategy": RandomSearch(), "budget": Budget(), "seed": 0, "seeds": (),
            "best_available": (), "settings": Settings(),
        },
        "make_plan": {
            "space": SPACE, "strategy": "random_search", "exact": True, "rebuild": True, "effort": "quick",
            "budget": Budget(evaluations=3), "seed": 0, "seeds": [CONFIG], "best_available": [CONFIG], "settings": {},
        },
        "start": {"plan": plan},
        "request": {"search": search, "room": 1},
        "advance": {"search": search, "event": Ticked(1.0)},
        "result": {"search": search},
        "tune": {
            "space": SPACE, "evaluator": evaluator(), "strategy": "random_search", "effort": "quick",
            "budget": Budget(evaluations=3), "seed": 0, "journal": lambda: folder / f"{next(number)}.jsonl",
            "seeds": [CONFIG], "best_available": [CONFIG], "settings": {}, "progress": False, "cache": None,
            "key": None, "cache_use": None, "warm_start": None,
        },
        "tune ": {
            "space": SPACE, "evaluator": evaluator(), "strategy": "random_search", "budget": Budget(evaluations=3),
            "progress": False, "cache": Cache(folder / "cache"), "key": KEY, "cache_use": "normal",
            "warm_start": WarmStart(),
        },
        "resume": {"journal": journal, "evaluator": evaluator(), "space": None, "progress": False},
        "replay": {"journal": journal, "space": None},
        "load_seeds": {"path": folder / "config.json", "space": SPACE},
        "load_config": {"path": folder / "config.json"},
        "save_config": {"config": {"a": 1}, "path": folder / "written.json"},
        "read_tuned_configs": {"path": folder / "config.json", "format": "vllm"},
        "write_tuned_configs": {
            "configs": [(1, {"BLOCK_SIZE_M": 16})], "path": folder / "E=1.json", "format": "vllm", "rename": None,
            "kernel_name": "", "triton_version": "3.4",
        },
        "write_seeds": {"configs": [{"a": 1}], "path": folder / "seeds.json", "source": "mine"},
        "environment": {"variables": {}},
        "CallableEvaluator": {
            "build": build, "args": (), "make_args": None, "reference": None, "checker": None, "rtol": 1e-3,
            "atol": 1e-3, "workers": 1, "isolation": "in_process", "overlap": False, "build_timeout_s": 1.0,
            "run_timeout_s": 1.0, "memory_limit_mb": None, "warmup_ms": 1.0, "target_ms": 1.0, "min_repeats": 1,
            "max_repeats": 1, "min_sample_ms": 0.1, "timer": None, "exact": False,
        },
        "Cache": {"directory": folder / "cache", "shipped": (), "mode": "read_write"},
        "WarmStart": fields(WarmStart()),
        "LooseKey": {"kernel": "k", "source": "s", "specialization": Specialization(), "device": DEVICE, "space": "f"},
        "StrictKey": {"loose": KEY, "versions": Versions()},
        "key_for": {"space": SPACE, "evaluator": evaluator()},
        "iter_cache_entries": {"cache_path": folder / "cache", "max_scan": 3},
        "register": {"name": "random_search", "strategy": RandomSearch},
        "Timed": {"times_ms": (1.0,), "compile_s": 0.0, "run_s": 0.0, "cut": False, "details": {}},
        "Failed": {"kind": "crash", "message": "", "compile_s": 0.0, "run_s": 0.0, "details": {}},
        "Trial": fields(Trial(0, Config(a=1))),
    }  # fmt: skip
    for kind in STRATEGIES.values():
        if kind.__name__ != "FiniteSearch":
            listed[kind.__name__] = fields(kind())
    listed["FiniteSearch"] = {"configs": [CONFIG, {"a": 2, "b": None}]}
    found = {name: (getattr(autotune, name.strip()), arguments) for name, arguments in listed.items()}
    found["Config"] = (lambda items: Config(items), {"items": {"a": 1}})
    found["Config.from_json"] = (Config.from_json, {"text": "{}"})
    methods: dict[str, dict[str, Any]] = {
        "check": {"config": CONFIG}, "complete": {"config": {"a": 1}}, "encode": {"configs": [CONFIG]},
        "decode": {"rows": ROWS}, "valid": {"rows": ROWS}, "rank": {"rows": ROWS}, "unrank": {"ranks": ROWS[0]},
        "with_role": {"role": "x"}, "sample": {"key": root(0), "n": 2}, "sample_distinct": {"key": root(0), "n": 2},
        "features": {"rows": ROWS}, "neighbours": {"row": ROWS[0], "radius": 1},
    }  # fmt: skip
    found |= {f"Space.{name}": (getattr(SPACE, name), arguments) for name, arguments in methods.items()}
    return found


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """`register` takes some of the names, and other tests must not find them."""
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    return calls(tmp_path_factory.mktemp("arguments"))


LEFT_OUT = {
    "Asked", "Compare", "Compared", "Conclude", "Event", "Finished", "Interrupted", "Limits", "Measure", "Observed",
    "Outcome", "Result", "Resumed", "Search", "Ticked", "Wait", "Replay", "SavedBestConfig", "Identity", "Environment",
    "Device", "Versions", "Specialization", "DeviceLimits", "Problem", "ArgumentSet",  # plain data, checked when used
    "STRATEGIES", "InitialPopulationStrategy", "__version__", "get_cache_dir",  # no function, or tested elsewhere
    "triton_cache_dir", "installed_versions", "explain",
    "SimulatedEvaluator", "TritonEvaluator", "compute_leaf_similarity",  # tested with what they need
    "Disturbance", "order_of_round",  # of simulated studies
}  # fmt: skip

NAMES = sorted(
    {name for name in autotune.__all__ if name not in LEFT_OUT and not name.endswith(("Error", "Failed"))}
    | {"tune ", "Failed", "Config.from_json"}
    | {f"Space.{name}" for name in ("check", "complete", "encode", "decode", "valid", "rank", "unrank", "with_role")}
    | {f"Space.{name}" for name in ("sample", "sample_distinct", "features", "neighbours")}
)


def own(value: Any) -> bool:
    """Whether a wrong value is a function that the library called: then the function itself is wrong."""
    return callable(value)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_type_is_told_in_a_sentence(
    public: dict[str, Any], name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a wrong value may be the name of a file
    if name not in public:
        one = getattr(autotune, name)
        assert not (inspect.isfunction(one) and inspect.signature(one).parameters), f"{name} is not tried here yet"
        return  # a class of plain data, or nothing to be given
    function, arguments = public[name]
    for argument in arguments:
        for value in WRONG:
            if name.startswith("tune") and argument == "budget" and (value is None or isinstance(value, Budget)):
                continue  # a search without end, on purpose
            given = {n: v() if n == "journal" and callable(v) else v for n, v in arguments.items()}
            given[argument] = value
            said = "it works, or the call does not fit the signature"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = function(**given)
                    if isinstance(found, Iterator):
                        list(found)
                except AutotuneError as error:
                    said = str(error)
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)
                    of_signature = isinstance(error, TypeError) and len(where) <= 1
                    if not of_signature and not own(value):
                        pytest.fail(f"{name}({argument}={value!r:.40}): {type(error).__name__}: {error}")
            assert len(said) > 10
            assert "\n" not in said


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tune(SPACE, 3), EvaluatorError, "evaluator is 3; give an evaluator"),
        (lambda: tune(SPACE, evaluator(), budget="20"), PlanError, "budget is '20'; give Budget"),
        (lambda: tune(SPACE, evaluator(), budget=2.5), PlanError, "budget is 2.5"),
        (lambda: tune(SPACE, evaluator(), 3), StrategyError, "strategy is 3; give a name"),
        (lambda: tune(SPACE, evaluator(), autotune.FiniteSearch), StrategyError, "missing required field `configs`"),
        (lambda: tune(3, evaluator()), SpaceError, "space is 3; give a Space"),
        (lambda: tune({}, evaluator()), SpaceError, "at least one parameter"),
        (lambda: tune({"a": 3}, evaluator()), SpaceError, "parameter 'a' is 3"),
        (lambda: tune(SPACE, evaluator(), seed="1"), PlanError, "seed is '1'; give an integer"),
        (lambda: tune(SPACE, evaluator(), seeds={"a": 1}), PlanError, "seeds is .*; give a list of configs"),
        (lambda: tune(SPACE, evaluator(), seeds=[3]), ConfigError, "seeds: config 0 is 3"),
        (lambda: tune(SPACE, evaluator(), settings={"verify_rounds": "9"}), PlanError, "verify_rounds is '9'"),
        (lambda: PatternSearch(copies=2.5), StrategyError, "copies is 2.5; give an integer"),
        (lambda: PatternSearch(copies=None), StrategyError, "copies is None"),
        (lambda: Budget(seconds="1"), PlanError, "seconds = '1'"),
        (lambda: SPACE.check(3), ConfigError, "the config is 3; give values by name"),
        (lambda: Config(3), ConfigError, "the config is 3"),
        (lambda: load_config(3), ConfigError, "path is 3; give a path"),
    ],
)
def test_what_is_said(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_what_is_meant_is_taken() -> None:
    quick: dict[str, Any] = {"progress": False, "budget": np.int64(4), "seed": np.int32(1)}
    assert tune(SPACE, evaluator(), RandomSearch, **quick).evaluations == 4
    assert tune({"a": Integer(1, 4)}, evaluator(), "random_search", progress=False, budget=3).evaluations == 3
    seeded = tune(SPACE, evaluator(), "random_search", seeds=[{"a": np.int64(3), "b": np.str_("x")}], **quick)
    assert seeded.evaluations == 4
    assert SPACE.check({"a": np.int16(2), "b": None}) == {"a": 2, "b": None}
    assert SPACE.check({"a": np.int16(2), "b": None})["a"].__class__ is int
    assert Integer(np.int64(1), np.int64(4)) == Integer(1, 4)
    assert Space({"p": PowerOfTwo(np.int64(1), 4)}).fingerprint == Space({"p": PowerOfTwo(1, 4)}).fingerprint
    assert PatternSearch(copies=np.int64(2), min_improvement_delta=np.float64(0.5)) == PatternSearch(
        copies=2, min_improvement_delta=0.5
    )
    assert make_plan(SPACE, "random_search", settings={"count": np.int64(7)}).strategy == RandomSearch(count=7)
    assert Budget(seconds=np.float64(2)) == Budget(seconds=2)
    plan = make_plan(SPACE, "random_search", budget=20)
    assert plan.budget == Budget(evaluations=20)
    assert KernelConfig(num_warps=np.int64(4)) == KernelConfig(num_warps=4)


def test_a_function_is_the_build_of_a_callable_evaluator() -> None:
    found = tune({"a": Integer(1, 2)}, build, "random_search", budget=2, progress=False, effort="quick")
    assert found.evaluations == 2


class Own(Struct, frozen=True):
    """A strategy that is registered nowhere, and proposes what it is told to."""

    points: Any
    walk: Any = None
    generation: Any = 0

    def init(self, space: Space, seeds: Any, key: Any) -> None:
        return None

    def propose(self, space: Space, state: None, ask: Ask, key: Any) -> Any:
        if ask.proposed:
            return Done("that was all")
        walk = np.zeros(len(self.points), np.int64) if self.walk is None else self.walk
        return Proposals(self.points, walk, self.generation)

    def observe(self, space: Space, state: None, seen: Any) -> None:
        return None


def test_an_own_strategy_needs_no_name_unless_something_refers_to_it(tmp_path: pathlib.Path) -> None:
    points = np.array([[1, 0], [2, 1]])
    found = tune(SPACE, evaluator(), Own(points), progress=False, effort="quick")
    assert found.evaluations == 3
    for more in ({"journal": tmp_path / "j.jsonl"}, {"cache": tmp_path / "cache"}):
        with pytest.raises(StrategyError, match=r"call autotune.register"):
            tune(SPACE, evaluator(), Own(points), progress=False, **more)
        assert not (tmp_path / "j.jsonl").exists()
    changed = make_plan(SPACE, Own(points), settings={"generation": 3}).strategy
    assert changed.generation == 3  # type: ignore[attr-defined]
    with pytest.raises(StrategyError, match="has no setting 'generations'"):
        make_plan(SPACE, Own(points), settings={"generations": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        [[99, 0], [-1, 0], [1, 2], [1, -5]],
        [[2.5, 0], [float("nan"), 0], [float("inf"), 1], [1e300, 0]],
        [[2**62, 0], [-(2**62), 0]],
    ],
)
def test_what_is_no_point_is_counted_as_rejected(wrong: Any) -> None:
    points = np.array([*wrong, [1, 0], [2, 1]])
    found = tune(SPACE, evaluator(), Own(points), progress=False)
    assert found.counts == {"timed": found.evaluations}
    assert any(f"{len(wrong)} proposals were outside of the space" in note for note in found.notes)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Own(np.zeros((2, 3), np.int64)), r"points as int64 of the shape \[2, 3\]; they are integers \[n, 2\]"),
        (Own(np.zeros(2, np.int64)), r"of the shape \[2\]"),
        (Own(np.array([["a", "b"]])), "points as <U1"),
        (Own(np.array([[1, 0]]), np.zeros(3, np.int64)), "walks as int64"),
        (Own(np.array([[1, 0]]), np.array([0.5])), "walks as float64"),
        (Own(np.array([[1, 0]]), None, 0.5), "the generation 0.5"),
    ],
)
def test_proposals_of_another_form_are_told_in_a_sentence(strategy: Any, words: str) -> None:
    with pytest.raises(StrategyError, match=words):
        tune(SPACE, evaluator(), strategy, progress=False)


def test_an_answer_of_another_kind_is_told_in_a_sentence() -> None:
    class Odd(Own, frozen=True):
        def propose(self, space: Space, state: None, ask: Ask, key: Any) -> Any:
            return [[1, 0]]

    with pytest.raises(StrategyError, match=r"Odd\.propose gave .*; it gives Proposals, AwaitOutcome or Done"):
        request(start(make_plan(Space({"a": Integer(1, 4)}), Odd(np.zeros((1, 1))))))
