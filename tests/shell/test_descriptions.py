"""Strategies and settings in words: the classes say all of it."""

from typing import Annotated

import msgspec
import pytest

from autotune.core.errors import StrategyError
from autotune.core.strategies.registry import DEFAULT_STRATEGY, STRATEGIES
from autotune.shell.descriptions import SEARCH, describe_settings, describe_strategies


@pytest.mark.parametrize("name", [*STRATEGIES, SEARCH])
def test_every_setting_has_its_meaning(name: str) -> None:
    found = describe_settings(name)
    assert found, "a strategy without settings is not in the registry"
    assert [one.name for one in found if not one.meaning] == []


def test_a_setting_is_described_by_its_field() -> None:
    found = {one.name: one for one in describe_settings("pattern_search")}
    copies = found["copies"]
    assert (copies.type, copies.default, copies.range) == ("int", 5, "at least 1")
    assert copies.meaning == "walks, from as many configs"
    kind = found["initial_population_strategy"]
    assert kind.type == "text or None"
    assert "from_random" in kind.range
    assert {one.name: one.range for one in describe_settings(SEARCH)}["confirm_at_most"] == "at least 2"
    assert describe_settings("finite_search")[0].required


def test_a_registered_strategy_of_a_user_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(msgspec.Struct, frozen=True):
        """Walks.

        width: of a step, in codes. height: None: flat.
        """

        width: Annotated[int, msgspec.Meta(ge=2)] = 3
        height: float | None = None
        unsaid: bool = False

    monkeypatch.setitem(STRATEGIES, "own", Own)
    width, height, unsaid = describe_settings("own")
    assert (width.meaning, width.range) == ("of a step, in codes", "at least 2")
    assert (height.type, height.meaning, unsaid.meaning) == ("float or None", "None: flat", "")
    assert describe_strategies()[-1].line == "Walks."


def test_one_strategy_is_the_default_and_an_unknown_one_is_refused() -> None:
    assert [one.name for one in describe_strategies() if one.default] == [DEFAULT_STRATEGY]
    with pytest.raises(StrategyError, match="did you mean"):
        describe_settings("patern_search")
