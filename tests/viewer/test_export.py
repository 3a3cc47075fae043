import csv
import io

from autotune.shell.journal import Journal
from autotune.viewer.export import view_csv
from autotune.viewer.journal_view import view_journal
from tests.viewer.conftest import NASTY_MESSAGE, NASTY_NAME


def test_a_csv_file_has_a_row_for_each_config(journal: Journal) -> None:
    view = view_journal(journal)
    rows = list(csv.DictReader(io.StringIO(view_csv(view))))
    assert [int(row["config"]) for row in rows] == view.trials.number
    for place, row in enumerate(rows):
        assert {"BLOCK": int(row["BLOCK"]), "num_warps": int(row["num_warps"]), NASTY_NAME: row[NASTY_NAME]} == (
            view.config(place)
        )
        time_ms = view.trials.time_ms[place]
        assert row["time_ms"] == ("" if time_ms is None else repr(time_ms))
        assert row["message"] == ("" if time_ms is not None else NASTY_MESSAGE)
