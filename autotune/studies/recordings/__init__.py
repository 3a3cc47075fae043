"""Recorded spaces: `Recording`, the file formats (Kernel Tuner's, T4, KTT's, our own), and `load_recording` for all."""

from autotune.studies.recordings.kernel_tuner import write_kernel_tuner
from autotune.studies.recordings.load import load_recording
from autotune.studies.recordings.objective import Objective
from autotune.studies.recordings.own import write_recording
from autotune.studies.recordings.recording import Recording, recorded_parameters
from autotune.studies.recordings.rows import RecordingHeader, RecordingRow, build_recording

__all__ = [
    "Objective",
    "Recording",
    "RecordingHeader",
    "RecordingRow",
    "build_recording",
    "load_recording",
    "recorded_parameters",
    "write_kernel_tuner",
    "write_recording",
]
