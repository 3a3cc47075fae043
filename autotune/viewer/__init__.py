"""Searches and recordings to look at: a page, tables, the state of a search that runs, and plots.

The functions take a journal, a recording or the path of one.
"""

from typing import TYPE_CHECKING

from autotune._lazy import lazy_names

if TYPE_CHECKING:
    from autotune.viewer.export import view_csv as view_csv
    from autotune.viewer.page import render_page as render_page
    from autotune.viewer.plots import plot_finalists as plot_finalists
    from autotune.viewer.plots import plot_history as plot_history
    from autotune.viewer.plots import plot_importances as plot_importances
    from autotune.viewer.plots import plot_parallel as plot_parallel
    from autotune.viewer.sources import as_view as as_view
    from autotune.viewer.view import SearchView as SearchView
else:
    __getattr__, __dir__ = lazy_names(__name__)
