"""Kernels of recordings, and the budgets of known ones."""

import pytest

from autotune.studies.recordings import load_recording
from autotune.studies.scores import Baseline, kernel_names
from tests.studies.small_study import SPACES, recording


def test_the_kernel_of_a_recording() -> None:
    told = [recording("conv__a", "conv_kernel"), recording("conv__b"), recording("other__c"), recording("plain")]
    assert kernel_names(told) == ("conv_kernel", "conv_kernel", "other", "plain")


@pytest.mark.skipif(not SPACES.is_dir(), reason="the shared recordings are not here")
@pytest.mark.parametrize(("name", "budget"), [("convolution_milo__MI250X", 46), ("dedispersion_milo__W6600", 2334)])
def test_budgets_of_known_recordings(name: str, budget: int) -> None:
    assert Baseline(load_recording(SPACES / f"{name}.json.gz")).budget == budget
