"""Recorded spaces, searches on them instead of on a device, and studies, which compare strategies on them."""

from typing import TYPE_CHECKING

from autotune._lazy import lazy_names

if TYPE_CHECKING:
    from autotune.studies.peers import Peer as Peer
    from autotune.studies.peers import register_peer as register_peer
    from autotune.studies.record import record_space as record_space
    from autotune.studies.recordings import Objective as Objective
    from autotune.studies.recordings import Recording as Recording
    from autotune.studies.recordings import load_recording as load_recording
    from autotune.studies.recordings import write_kernel_tuner as write_kernel_tuner
    from autotune.studies.recordings import write_recording as write_recording
    from autotune.studies.recordings.load import builtin_recordings as builtin_recordings
    from autotune.studies.report import write_study as write_study
    from autotune.studies.result import StudyResult as StudyResult
    from autotune.studies.runner import run_study as run_study
    from autotune.studies.simulation import SimulatedRun as SimulatedRun
    from autotune.studies.simulation import Simulation as Simulation
    from autotune.studies.simulation import Trace as Trace
    from autotune.studies.simulation import simulate as simulate
    from autotune.studies.spec import StrategyEntry as StrategyEntry
    from autotune.studies.spec import StudyError as StudyError
    from autotune.studies.spec import StudySpec as StudySpec
    from autotune.studies.spec import load_study as load_study
    from autotune.studies.tables import StudyTable as StudyTable
    from autotune.studies.tables import study_tables as study_tables
else:
    __getattr__, __dir__ = lazy_names(__name__)
