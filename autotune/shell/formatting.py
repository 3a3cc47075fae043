"""Texts for people; see `core.formatting`."""

from autotune.core.formatting import LONGEST_MESSAGE as LONGEST_MESSAGE
from autotune.core.formatting import describe_error as describe_error
from autotune.core.formatting import escape_control_lines as escape_control_lines
from autotune.core.formatting import escape_controls as escape_controls
from autotune.core.formatting import format_count as format_count
from autotune.core.formatting import format_duration as format_duration
from autotune.core.formatting import format_milliseconds as format_milliseconds
