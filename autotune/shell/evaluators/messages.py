"""The orders of `CallableEvaluator` to its workers, and their replies."""

import msgspec
from msgspec import Struct

from autotune.core.outcomes import Outcome
from autotune.shell.processes.messages import Broken, JobOrder


class Build(JobOrder, frozen=True, tag="build"):
    """Build this config (one JSON object). The reply is Built, or Ended with a failure."""

    config: str


class RunBuilt(Struct, frozen=True, tag="run"):
    """Check and time the built config; begin no sample after `budget_s` seconds. The reply is Ended."""

    cutoff_ms: float | None
    budget_s: float


class Prepare(Struct, frozen=True, tag="prepare"):
    """Check and warm up the built config, for samples to come. The reply is StepDone, or Ended with a failure."""


class Sample(Struct, frozen=True, tag="sample"):
    """Take one sample. The reply is StepDone, or Ended with a failure."""


class Verify(Struct, frozen=True, tag="verify"):
    """Check the sampled config once more. The reply is StepDone, or Ended with a failure."""


Order = Build | RunBuilt | Prepare | Sample | Verify


class Ready(Struct, frozen=True, tag="ready"):
    """The worker has loaded its workload."""


class Built(Struct, frozen=True, tag="built"):
    """The config is built. seconds: with the time for which the worker was stopped."""

    seconds: float


class StepDone(Struct, frozen=True, tag="done"):
    """The config is prepared, sampled or verified. seconds: in all. time_ms: the sample, if it was one."""

    seconds: float
    time_ms: float | None = None


class Ended(Struct, frozen=True, tag="ended"):
    """The config has its outcome, and the worker has dropped it."""

    outcome: Outcome


Reply = Ready | Broken | Built | StepDone | Ended

decode_order = msgspec.msgpack.Decoder[Order](Order).decode
decode_reply = msgspec.msgpack.Decoder[Reply](Reply).decode
"""They raise msgspec.DecodeError for any other body of a frame."""
