"""Runs single laws of a suite without pytest's reporting, to see which of them a planted fault breaks."""

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky


def laws_of(suite: type) -> list[str]:
    """The names of all laws of a suite but the slow ones."""
    names = [name for name in dir(suite) if name.startswith("test_")]
    return [name for name in names if not any(mark.name == "slow" for mark in _marks(suite, name))]


def _marks(suite: type, name: str) -> list[Any]:
    return list(getattr(getattr(suite, name), "pytestmark", ()))


def _cases(suite: type, name: str) -> Iterator[dict[str, Any]]:
    axes = [
        [{mark.args[0]: getattr(value, "values", (value,))[0]} for value in mark.args[1]]
        for mark in _marks(suite, name)
        if mark.name == "parametrize"
    ]
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def break_of(suite: type, name: str, folder: Path) -> BaseException | None:
    """The error with which a law of a suite fails, or None where it holds; examples are not made smaller."""
    for number, case in enumerate(_cases(suite, name)):
        law = getattr(suite(), name)
        function = law.__func__
        usual = getattr(function, "_hypothesis_internal_use_settings", None)
        wanted = inspect.signature(inspect.unwrap(law)).parameters
        place = folder / f"{name}-{number}"
        place.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            if usual is not None:
                quick = settings(
                    usual, phases=(Phase.generate,), database=None, derandomize=True, print_blob=False,
                    suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                patch.setattr(function, "_hypothesis_internal_use_settings", quick)
            fixtures = {"tmp_path": place, "monkeypatch": patch, "capfd": None}
            arguments = case if usual is not None else {n: f for n, f in fixtures.items() if n in wanted} | case
            try:
                law(**arguments)
            except (Exception, ExceptionGroup, Flaky, pytest.fail.Exception) as error:
                return error
    return None
