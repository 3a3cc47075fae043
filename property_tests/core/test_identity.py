"""Identity: functions that may behave differently have different digests; a digest is the same in every process."""

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune import (
    Budget,
    CacheError,
    CallableEvaluator,
    Choice,
    Integer,
    JournalError,
    ListOf,
    OptionalOf,
    Space,
    SpaceError,
    key_for,
    make_plan,
    resume,
    tune,
)
from autotune.core.identity import identify
from autotune.core.keys import root
from autotune.core.strategies.proposals import list_small_space
from autotune.shell.cache.sources import source_digest
from autotune.shell.codec import encode, spec_of_plan
from property_tests.core import function_pairs
from property_tests.core.function_pairs import made, pairs

PAIRS = {name: (one, other) for name, one, other in pairs()}
HERE = Path(function_pairs.__file__)


@pytest.mark.parametrize("name", PAIRS)
def test_functions_that_differ_in_one_respect_are_told_apart(name: str) -> None:
    one, other = PAIRS[name]
    assert identify(one).portable
    assert identify(other).portable
    assert identify(one).digest != identify(other).digest
    assert identify(one) == identify(one)


def test_all_functions_are_told_apart_and_made_again_are_the_same() -> None:
    digests = {name: identify(function).digest for name, function in made().items()}
    again = {name: identify(function).digest for name, function in made().items()}
    assert digests == again


ELSEWHERE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("{name}", "{path}")
module = importlib.util.module_from_spec(spec)
sys.modules["{name}"] = module
spec.loader.exec_module(module)
from autotune.core.identity import identify
print(json.dumps({{name: identify(function).digest for name, function in module.made().items()}}))
"""


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_other_processes_find_the_same(seed: str, tmp_path: Path) -> None:
    """Another hash seed, another folder, other lines, other comments, another name of the module."""
    text = HERE.read_text().replace("import collections\n", "# moved\n\n\nimport collections\n", 1)
    text = text.replace(
        "    return lambda a, b: (a, b) <= limit", "    # a remark\n    return lambda a, b: (a, b) <= limit"
    )
    path = tmp_path / "elsewhere.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(name="elsewhere", path=path)],
        env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    here = {name: identify(function).digest for name, function in made().items()}
    there = json.loads(done.stdout)
    assert [name for name in here if here[name] != there[name]] == []


def test_the_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "constraint.py"
    path.write_text("def fits(a):\n    return a < 3\n")
    scope: dict[str, Any] = {"__name__": "constraint"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    before = identify(scope["fits"])
    path.write_text("def fits(a):\n    return a < 4\n")
    assert identify(scope["fits"]) == before


def opaque() -> dict[str, Callable[..., Any]]:
    lock, stream, lines = threading.Lock(), open(os.devnull), (line for line in "ab")  # noqa: SIM115
    return {
        "a lock": lambda a, b: lock.locked() or a < b,
        "a file": lambda a, b: stream.closed or a < b,
        "a generator": lambda a, b: lines is None or a < b,
        "a lock in a default": function_pairs.with_keyword_default(lock),
        "a name without a value": eval("lambda a, b: a < not_yet", {"__name__": "of_a_user"}),
    }


@pytest.mark.parametrize("name", opaque())
def test_what_has_no_digest_is_its_own(name: str) -> None:
    one, other = opaque()[name], opaque()[name]
    assert not identify(one).portable
    assert identify(one).digest != identify(other).digest, "even where all else is equal"
    spaces = [Space(PARAMETERS, [function]) for function in (one, other)]
    assert not spaces[0].portable
    assert spaces[0] != spaces[1]
    assert "not portable: it reaches" in repr(spaces[0])


FINGERPRINT = "778ddcd0e26194a79137cf55e887a081"
"""As version 0.1.0 wrote it."""

PARAMETERS = {"a": Integer(1, 30), "b": Integer(1, 30)}


@pytest.mark.parametrize(
    "name", ["numbers in a closure", "numbers in a global", "numbers in an attribute of a callable"]
)
def test_spaces_with_other_constraints_are_other_spaces(name: str) -> None:
    small, large = (Space(PARAMETERS, [function]) for function in PAIRS[name])
    assert small != large
    assert hash(small) != hash(large)
    assert small.fingerprint != large.fingerprint
    assert small.portable
    assert "portable" not in repr(small)
    again = Space(PARAMETERS, [PAIRS[name][0]])
    assert again == small
    assert hash(again) == hash(small)
    assert again.fingerprint == small.fingerprint


def at_most(limit: int) -> Callable[..., bool]:
    return lambda a, b: a * b <= limit


def slow_when_small(config: Any) -> Callable[[], None]:
    def run() -> None: ...

    return run


def test_no_memo_answers_for_another_space() -> None:
    """A search of the smaller space leaves nothing behind that a search of the larger one is given."""
    small, large = Space(PARAMETERS, [at_most(4)]), Space(PARAMETERS, [at_most(512)])
    assert small.count() == 8
    for space in (small, large):
        points = list_small_space(space)
        assert points is not None
        assert len(points) == space.count()
    assert large.count() == sum(a * b <= 512 for a in range(1, 31) for b in range(1, 31))


def test_a_journal_is_of_the_space_with_its_limit(tmp_path: Path) -> None:
    small, large = Space(PARAMETERS, [at_most(4)]), Space(PARAMETERS, [at_most(512)])
    evaluator = CallableEvaluator(slow_when_small, isolation="in_process", max_repeats=3, target_ms=0, warmup_ms=0)
    journal = tmp_path / "one.jsonl"
    tune(small, evaluator, "random_search", budget=Budget(evaluations=3), journal=journal)
    with pytest.raises(JournalError, match="another space"):
        resume(journal, evaluator, space=large)
    assert resume(journal, evaluator, space=Space(PARAMETERS, [at_most(4)])).evaluations == 3


def test_a_journal_of_what_is_not_portable_is_refused_in_a_sentence(tmp_path: Path) -> None:
    spaces = [Space(PARAMETERS, [opaque()["a file"]]) for _ in range(2)]
    evaluator = CallableEvaluator(slow_when_small, isolation="in_process", max_repeats=3, target_ms=0, warmup_ms=0)
    journal = tmp_path / "one.jsonl"
    tune(spaces[0], evaluator, "random_search", budget=Budget(evaluations=3), journal=journal)
    with pytest.raises(JournalError, match="of one process only"):
        resume(journal, evaluator, space=spaces[1])


def test_a_space_whose_constraint_was_changed_from_outside_gives_no_stale_answer() -> None:
    limits = [4]
    space = Space(PARAMETERS, [lambda a, b: a * b <= limits[0]])
    assert space.count() == 8
    limits[0] = 512
    for ask in (space.count, space.rows, lambda: space.sample(root(0), 1), lambda: space.fingerprint):
        with pytest.raises(SpaceError, match="has changed since the space was made"):
            ask()
    limits[0] = 4
    assert space.count() == 8, "it is again what it was"


def test_a_rebound_variable_is_named() -> None:
    limit = 4
    space = Space(PARAMETERS, [lambda a, b: a * b <= limit])
    assert space.count() == 8
    limit = 512
    with pytest.raises(SpaceError, match="reads limit, which has changed"):
        space.count()


def test_what_a_constraint_writes_itself_does_not_count() -> None:
    seen, memo, calls = [], {}, 0

    def fits(a: int, b: int) -> bool:
        nonlocal calls
        calls += 1
        seen.append(a)
        if (a, b) not in memo:
            memo[a, b] = a * b <= 4
        return memo[a, b]

    space = Space(PARAMETERS, [fits], {"a": 1, "b": 1})
    before = space.fingerprint
    assert space.count() == 8 == len(space.rows())
    assert calls > 8
    assert space.fingerprint == before
    again = Space(PARAMETERS, [fits], {"a": 1, "b": 1})
    assert again.count() == 8
    assert again == space


class Counting:
    def __init__(self, limit: int) -> None:
        self.limit, self.calls, self.seen = limit, 0, {0}

    def __call__(self, a: int, b: int) -> bool:
        self.calls += 1
        self.seen.add(a)
        return a * b <= self.limit


def test_what_others_change_counts_beside_what_a_constraint_writes_itself() -> None:
    fits = Counting(4)
    space = Space(PARAMETERS, [fits])
    assert space.count() == 8
    assert fits.calls >= 900
    assert space == Space(PARAMETERS, [fits]) == Space(PARAMETERS, [Counting(4)]) != Space(PARAMETERS, [Counting(5)])
    fits.limit = 5
    with pytest.raises(SpaceError, match="has changed"):
        space.count()


def test_a_space_without_functions_has_the_fingerprint_it_always_had() -> None:
    space = Space(
        {"a": Integer(1, 4), "b": Choice((1, 1.0, True, "x", None))}, ["a < 3 or b is None"], {"a": 1, "b": 1}
    )
    assert space.fingerprint == FINGERPRINT


PARAMETER_PAIRS: dict[str, tuple[Any, Any]] = {
    "kinds of values": (Choice((1,)), Choice((True,))),
    "whole and real values": (Choice((1,)), Choice((1.0,))),
    "signs of zero": (Choice((0.0,)), Choice((-0.0,))),
    "a value and its text": (Choice((1,)), Choice(("1",))),
    "the order of values": (Choice((1, 2)), Choice((2, 1))),
    "ordered": (Choice((1, 2)), Choice((1, 2), ordered=True)),
    "a nested value": (Choice(((1,),)), Choice(((True,),))),
    "a role": (Integer(1, 4), Integer(1, 4, role="block_size")),
    "a step": (Integer(1, 4), Integer(1, 4, step=3)),
    "a range and a choice": (Integer(1, 2), Choice((1, 2))),
    "a special value": (OptionalOf(Integer(1, 4), 0), OptionalOf(Integer(1, 4), False)),
    "an inner parameter": (ListOf(Choice((1,)), 2), ListOf(Choice((True,)), 2)),
}


@pytest.mark.parametrize("name", PARAMETER_PAIRS)
def test_parameters_that_differ_in_one_respect_are_told_apart(name: str) -> None:
    one, other = PARAMETER_PAIRS[name]
    assert one == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(pickle.loads(pickle.dumps(one)))
    assert one != other
    spaces = [Space({"a": each}) for each in (one, other)]
    assert spaces[0] != spaces[1]
    assert spaces[0].spec != spaces[1].spec
    assert spaces[0].fingerprint != spaces[1].fingerprint


MIXED = Space({"a": Choice((1, 1.0, True, "1", None))}, ["a is not None or a is None"], {"a": 1})
PLAN: dict[str, Any] = {"space": MIXED, "strategy": "random_search", "seeds": [{"a": 1}], "best_available": [{"a": 1}]}
PLANS: dict[str, dict[str, Any]] = {
    "space": {"space": Space(dict(MIXED.parameters), (), {"a": 1})},
    "default": {"space": Space(dict(MIXED.parameters), MIXED.constraints, {"a": True})},
    "strategy": {"strategy": "pattern_search"},
    "a setting of the strategy": {"settings": {"count": 7}},
    "a setting of the machine": {"settings": {"verify_rounds": 3}},
    "evaluations": {"budget": Budget(evaluations=3)},
    "seconds": {"budget": Budget(seconds=3)},
    "generations": {"budget": Budget(generations=3)},
    "seed": {"seed": 1},
    "kind of a seed config": {"seeds": [{"a": True}]},
    "a seed config and its text": {"seeds": [{"a": "1"}]},
    "no seed config": {"seeds": []},
    "kind of an earlier best": {"best_available": [{"a": 1.0}]},
    "exact": {"exact": True},
    "rebuild": {"rebuild": False},
    "effort": {"effort": "quick"},
}


def test_plans_that_differ_in_one_respect_are_told_apart() -> None:
    plans = {"as it is": make_plan(**PLAN), **{name: make_plan(**{**PLAN, **more}) for name, more in PLANS.items()}}
    texts = {name: encode(spec_of_plan(plan)) for name, plan in plans.items()}
    assert len(set(texts.values())) == len(plans), "nor does a journal mix them up"
    for name, plan in plans.items():
        assert [other for other in plans if plans[other] == plan] == [name]
        assert pickle.loads(pickle.dumps(plan)) == plan
    assert make_plan(**PLAN) == plans["as it is"]
    assert encode(spec_of_plan(make_plan(**PLAN))) == texts["as it is"]


@pytest.mark.parametrize("name", [name for name in PAIRS if "a closure" in name or "the code" in name])
def test_cache_keys_of_functions_that_differ_are_told_apart(name: str) -> None:
    one, other = PAIRS[name]
    assert source_digest(one) == source_digest(one) != source_digest(other)
    evaluators = [CallableEvaluator(each, isolation="in_process") for each in (one, other)]
    keys = [key_for(MIXED, evaluator) for evaluator in evaluators]
    assert keys[0] == key_for(MIXED, evaluators[0]) != keys[1]
    assert keys[0].digest != keys[1].digest
    checked = [CallableEvaluator(slow_when_small, checker=each, isolation="in_process") for each in (one, other)]
    assert key_for(MIXED, checked[0]).digest != key_for(MIXED, checked[1]).digest


def test_no_cache_key_is_made_of_what_is_not_portable() -> None:
    for function in opaque().values():
        with pytest.raises(CacheError, match=r"reaches .*, of which no cache key can be made"):
            source_digest(function)
        with pytest.raises(CacheError, match="of this process only"):
            key_for(Space(PARAMETERS, [function]), CallableEvaluator(slow_when_small, isolation="in_process"))
