"""Progress in a notebook: one display that is renewed in place."""

import sys
from html import escape
from importlib import import_module

from autotune.shell.progress_state import ProgressState

NOTEBOOK_S = 0.5
"""The least number of seconds between two renewals: each is a message to the browser, and is kept in its memory."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: only then is there a display that can be renewed."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookPainter:
    """Renews one display: texts that stay, and below them a bar and a line."""

    interval_s = NOTEBOOK_S

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._handle = import_module("IPython.display").display(_bundle([], None), raw=True, display_id=True)

    def open(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self._texts.append(f"autotune: {text}")
        self._renew(None)

    def paint(self, progress_state: ProgressState) -> None:
        self._renew(progress_state)

    def close(self, last: ProgressState | None) -> None:
        self._renew(last)

    def _renew(self, state: ProgressState | None) -> None:
        self._handle.update(_bundle(self._texts, state), raw=True)


def _bundle(texts: list[str], state: ProgressState | None) -> dict[str, str]:
    """The display by MIME type: plain text, and HTML with a bar where a budget tells how long it is."""
    lines = texts if state is None else [*texts, state.line()]
    share = None if state is None else state.share
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress>'
    plain = "\n".join(lines)
    return {"text/plain": plain, "text/html": f"{bar}<pre>{escape(plain)}</pre>"}
