"""The live progress of a terminal: a bar where there is a budget, and where the search stands. Imports rich."""

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from autotune.shell.progress import ProgressState

BAR = 20


def can_move() -> bool:
    """Whether the terminal can be painted over."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class Screen:
    """Repaints two lines in place, and leaves nothing behind. Has no thread: it is painted when told to."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self._live.start()

    def paint(self, standing: "ProgressState") -> None:
        self._live.update(lines(standing), refresh=True)

    def close(self, last: "ProgressState | None") -> None:
        self._live.stop()


def lines(standing: "ProgressState") -> Group:
    """The bar and the counts, and under them the best; cut where the terminal ends."""
    top = Table.grid(padding=(0, 2, 0, 0))
    cells: list[ProgressBar | Text] = [Text(standing.counts())]
    if standing.share is not None:
        top.add_column(min_width=BAR)
        cells.insert(0, ProgressBar(total=1.0, completed=standing.share, width=BAR))
    top.add_column(no_wrap=True, overflow="ellipsis")
    top.add_row(*cells)
    return Group(top, Text.assemble((standing.phase, "cyan"), ": ", standing.best(), no_wrap=True, overflow="ellipsis"))
