"""Errors on one line. Triton's begin with the source and say at the end what is the matter with it."""

from autotune.shell.evaluators.bench import LONGEST_MESSAGE, describe

HEAD = 120


def both_ends(error: BaseException) -> str:
    """The kind of the error and how it begins, and how it ends where that is too long."""
    short = describe(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return short if len(text) <= LONGEST_MESSAGE else f"{text[:HEAD]} … {text[HEAD - LONGEST_MESSAGE + 3 :]}"
