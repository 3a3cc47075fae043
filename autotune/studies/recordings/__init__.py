"""Recorded spaces: one immutable value, the file formats (Kernel Tuner's, T4, KTT's, our own) and one door to them."""

from autotune.studies.recordings.kernel_tuner import write_kernel_tuner
from autotune.studies.recordings.load import load_recording
from autotune.studies.recordings.objective import Objective
from autotune.studies.recordings.own import write_recording
from autotune.studies.recordings.reading import Header, Row, recording_of
from autotune.studies.recordings.recording import Recording, parameters_of

__all__ = [
    "Header",
    "Objective",
    "Recording",
    "Row",
    "load_recording",
    "parameters_of",
    "recording_of",
    "write_kernel_tuner",
    "write_recording",
]
