"""`autotune resume JOURNAL FILE[:NAME]`: go on with a search, however it ended."""

from autotune.cli import ExitCode
from autotune.cli.options import AsJson, JournalFile, OwnStrategy, SaveConfig, ShowProgress, Target, searching_progress
from autotune.cli.problem_file import check_journal, load_own_strategy, load_problem
from autotune.cli.results import run_search
from autotune.shell import tuning
from autotune.shell.files import check_writable


def resume(
    journal: JournalFile,
    target: Target,
    strategy: OwnStrategy = None,
    save_config: SaveConfig = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> ExitCode:
    """Go on with the search of a journal, in that journal.

    Strategy, budget and seed are the journal's; the file gives the evaluator, and its space must be the journal's.
    """
    if save_config is not None:
        check_writable(save_config)
    check_journal(journal, "resume JOURNAL FILE[:NAME]")
    problem = load_problem(target)
    if strategy is not None:
        load_own_strategy(strategy)
    return run_search(
        lambda: tuning.resume(journal, problem.evaluator, space=problem.space, progress=searching_progress(progress)),
        target=target, journal=journal, as_json=as_json, save=save_config, progress=progress,
    )  # fmt: skip
