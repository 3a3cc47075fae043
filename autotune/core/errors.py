"""Errors for users: each is one sentence that names the fault, the place and the remedy."""


class AutotuneError(Exception):
    """Base of every error that this library raises on purpose. Its text is written for the user."""


class SpaceError(AutotuneError):
    """A parameter, a constraint or a whole space that contradicts itself."""


class ConfigError(AutotuneError):
    """A config that does not belong to its space."""


class StrategyError(AutotuneError):
    """A strategy that is unknown, or whose settings are out of range."""


class PlanError(AutotuneError):
    """A search that cannot begin: its budget, effort or seeds contradict the space or each other."""


class OutcomeError(AutotuneError, ValueError):
    """An impossible outcome, such as a time that is no finite number above zero."""


class EvaluatorError(AutotuneError):
    """An evaluator that cannot work at all, as opposed to a config that fails."""


class JournalError(AutotuneError):
    """A journal that cannot be read, or that belongs to another search."""


class RecordingError(AutotuneError):
    """A recording that cannot be read, or that lacks the requested data."""


class CacheError(AutotuneError):
    """A cache that cannot be used as requested, or a value that cannot be part of a cache key."""
