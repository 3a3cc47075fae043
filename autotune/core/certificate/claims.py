"""The certificate of a search: its claims as plain data, as JSON and as ten lines for people."""

import msgspec
from msgspec import Struct

from autotune.core.certificate.verdicts import Status
from autotune.core.config import Config
from autotune.core.formatting import escape_controls
from autotune.core.outcomes import Detail
from autotune.core.statistics import LARGEST, Ratio


class Rival(Struct, frozen=True, kw_only=True):
    """A config that was compared with others side by side. ratio: its time over the pick's, with bounds."""

    trial: int
    config: Config
    status: Status
    ratio: Ratio


class Selection(Struct, frozen=True, kw_only=True):
    """No measured config is faster than the pick by more than `eps`.

    shown: whether that is certain. error: the probability that it is said and wrong, over the whole procedure.
    measured: configs that were timed. compared: these of them side by side, the pick included. rivals: the compared
    ones but the pick, the closest first. ruled_out: configs whose time in the search alone was longer than the pick's
    would have been by more than `reach`, which is what such a time may be off by. unsettled: the trials that were
    neither compared nor ruled out.
    """

    shown: bool
    eps: float
    error: float
    measured: int
    compared: int
    rivals: tuple[Rival, ...]
    ruled_out: int
    reach: float
    unsettled: tuple[int, ...]


class NeverWorse(Struct, frozen=True, kw_only=True):
    """The pick is not slower than the default: it is the default, or faster by at least `least` (time over time).

    error: the probability that it is said and wrong. rounds: how many rounds after the choice of the pick show it.
    """

    is_default: bool
    least: float
    error: float
    rounds: int


class Exploration(Struct, frozen=True, kw_only=True):
    """How much of the space was seen. measured, failed: configs. valid: configs of the space; None: not counted."""

    measured: int
    failed: int
    valid: int | None = None


class Levels(Struct, frozen=True, kw_only=True):
    """How far the comparisons agree. comparisons, rounds: of the verification. within: the standard deviation of a log
    ratio from round to round. between: the pick's log ratio to the default, or to its closest rival, from comparison to
    comparison, beyond what `within` explains; None where fewer than two compared both.
    """

    comparisons: int
    rounds: int
    within: float
    between: float | None


class Renewal(Struct, frozen=True, kw_only=True):
    """The trials to time again once something has changed (driver, compiler, device), and about how long that takes."""

    trials: tuple[int, ...]
    seconds: float


class Certificate(Struct, frozen=True, kw_only=True):
    """The claims about the pick of a search, a pure function of its journal. `print` shows them in ten lines.

    trial, config: the pick. exact: whether times are exact, so that no claim can be wrong. never_worse: None where
    there is no default to compare with. levels: None without a comparison. details: further facts of the evaluator
    about the pick, such as what was compared with the reference.
    """

    trial: int
    config: Config
    exact: bool
    selection: Selection
    never_worse: NeverWorse | None
    exploration: Exploration
    levels: Levels | None
    details: dict[str, Detail]
    renewal: Renewal

    def to_json(self) -> bytes:
        """The certificate as JSON, the same bytes for the same journal on every machine."""
        return msgspec.json.encode(self, enc_hook=dict, order="deterministic")

    def rows(self) -> list[tuple[str, str]]:
        """The certificate in labelled lines."""
        found = [
            ("pick", f"trial {self.trial} {self.config.to_json()}"),
            ("selection", _selection_text(self)),
            ("rivals", _rivals_text(self.selection)),
            ("others", _others_text(self.selection)),
            ("never worse", _never_worse_text(self)),
            ("explored", _explored_text(self.exploration)),
            ("levels", _levels_text(self.levels)),
            ("checked", str(self.details.get("checked", "the outputs were not compared with a reference"))),
            ("details", ", ".join(f"{k}={v}" for k, v in self.details.items() if k != "checked") or "none"),
            ("renewal", _renewal_text(self.renewal)),
        ]
        return found

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.rows())
        return "\n".join(f"{label:{width}}  {escape_controls(text)}" for label, text in self.rows())


def _selection_text(of: Certificate) -> str:
    selection = of.selection
    if of.exact:
        return "no measured config is faster than the pick: times are exact"
    claim = f"no measured config is more than {100 * selection.eps:.3g} % faster than the pick"
    if selection.shown:
        return f"{claim} (wrong with a probability of at most {selection.error:.0%})"
    return f"it is not shown that {claim}"


def _rivals_text(selection: Selection) -> str:
    words = [rival.status for rival in selection.rivals]
    if not words:
        return "none were compared with the pick"
    return ", ".join(f"{words.count(word)} {word}" for word in ("beaten", "tied", "open") if word in words)


def _others_text(selection: Selection) -> str:
    text = f"{selection.ruled_out} ruled out by their times in the search"
    text += f", more than {selection.reach:.1%} above the pick's" if selection.reach else ""
    return text + (f"; {len(selection.unsettled)} neither compared nor ruled out" if selection.unsettled else "")


def _never_worse_text(of: Certificate) -> str:
    claim = of.never_worse
    if claim is None:
        return "there is no timed default to compare with"
    if claim.is_default:
        return "the pick is the default"
    if of.exact:
        return f"{claim.least:.4g}x as fast as the default"
    least = "" if claim.least <= 0 else f"at least {claim.least:.4g}x as fast as the default"
    if claim.least <= 1:
        return "not shown" + (f": {least}" if least else "")
    return f"{least}, by {claim.rounds} rounds after the choice (wrong with a probability of at most {claim.error:.1%})"


def _explored_text(exploration: Exploration) -> str:
    text = f"{exploration.measured:,} configs timed"
    if exploration.valid:
        text += f" of {exploration.valid:,} ({exploration.measured / exploration.valid:.2g} of the space)"
    return text + (f", {exploration.failed:,} failed" if exploration.failed else "")


def _levels_text(levels: Levels | None) -> str:
    if levels is None:
        return "no comparison side by side"
    text = f"{levels.rounds} rounds in {levels.comparisons} comparisons; a ratio varies by {levels.within:.2%} in one"
    return text + ("" if levels.between is None else f", by {levels.between:.2%} more between two")


def _renewal_text(renewal: Renewal) -> str:
    count = len(renewal.trials)
    return f"time {count} config{'s' * (count != 1)} again after an upgrade, in about {renewal.seconds:.1f} s"


NO_RATIO = Ratio(value=1.0, low=0.0, high=LARGEST)
"""The ratio of two configs that were never in one round."""
