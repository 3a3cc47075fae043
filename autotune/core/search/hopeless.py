"""Whether a search may end because its configs fail for one reason that is none of theirs.

A misspelt name in the kernel or a wrong reference fails every config with the same message, and the hundredth failure
says no more than the sixth. Failures are alike where kind and message agree once numbers, names of values and the
config's own values are left out. Only the default and all others together tell: where it works, or one other config
does, the search goes on. What depends on a config's size (memory, time, a crash) is never taken for such a reason.
"""

import re

from autotune.core.config import Config
from autotune.core.outcomes import Failed, FailureKind
from autotune.core.search.state import Search

KINDS: tuple[FailureKind, ...] = ("compile_error", "run_error", "wrong_answer")
"""Kinds of failures that a mistake in the kernel or in the reference has."""

WITHOUT_DEFAULT = 3
"""Without a default, which a user expects to work, it takes so many times the failures."""

_VALUES = re.compile(
    r"0x[0-9a-f]+|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|\b(?:nan|inf|True|False|None)\b", re.IGNORECASE
)


def believe_hopeless(search: Search) -> str | None:
    """Why the search may stop, in words; None where it must go on."""
    least = search.plan.settings.hopeless
    if not least or search.best_ms is not None:
        return None
    if search.default_trial is None:
        least *= WITHOUT_DEFAULT
    elif not search.records.has(search.default_trial):
        return None
    if search.observed < max(least, 1):
        return None
    found = dict(search.outcomes)
    seen = set()
    for trial, outcome in found.items():
        if not isinstance(outcome, Failed) or outcome.kind not in KINDS or not outcome.message:
            return None
        seen.add((outcome.kind, message_without_values(outcome.message, search.trials[trial].config)))
        if len(seen) > 1:
            return None
    first = found[min(found)]
    assert isinstance(first, Failed), "all of them failed"
    return f"the first {len(found)} configs fail alike: {first.kind.replace('_', ' ')}: {first.message}"


def message_without_values(message: str, config: Config) -> str:
    """A message with all numbers and all values of the config as #."""
    for text in sorted({v for v in config.values() if isinstance(v, str) and v}, key=lambda v: (-len(v), v)):
        message = message.replace(text, "#")
    return _VALUES.sub("#", message)
