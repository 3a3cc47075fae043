"""What a user can get wrong: each error is one sentence that names the fault, the place and the remedy."""


class AutotuneError(Exception):
    """Base of every error that this library raises on purpose; its text is meant for the user as it stands."""


class SpaceError(AutotuneError):
    """A parameter, a constraint or a whole space that cannot be what it says."""


class ConfigError(AutotuneError):
    """A config that does not belong to the space it is used with."""


class StrategyError(AutotuneError):
    """A strategy that is unknown, or whose settings are out of range."""


class PlanError(AutotuneError):
    """A search that cannot begin: its budget, effort or seeds contradict the space or one another."""


class OutcomeError(AutotuneError, ValueError):
    """An outcome that cannot be: times that are none."""


class EvaluatorError(AutotuneError):
    """An evaluator that cannot work at all (as opposed to one config that fails)."""


class JournalError(AutotuneError):
    """A journal that cannot be read, or that belongs to another search."""


class RecordingError(AutotuneError):
    """A recording that cannot be read, or that does not hold what is asked of it."""


class CacheError(AutotuneError):
    """A cache that cannot be used as it is asked to be, or a value that no key can be made of."""
