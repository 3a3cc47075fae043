"""Recorded spaces: `Recording`, the file formats (Kernel Tuner's, T4, KTT's, our own), and `load_recording` for all."""

from autotune.studies.recordings.kernel_tuner import write_kernel_tuner as write_kernel_tuner
from autotune.studies.recordings.load import load_recording as load_recording
from autotune.studies.recordings.objective import Objective as Objective
from autotune.studies.recordings.own import write_recording as write_recording
from autotune.studies.recordings.recording import Recording as Recording
from autotune.studies.recordings.recording import recorded_parameters as recorded_parameters
from autotune.studies.recordings.rows import RecordingHeader as RecordingHeader
from autotune.studies.recordings.rows import RecordingRow as RecordingRow
from autotune.studies.recordings.rows import build_recording as build_recording
