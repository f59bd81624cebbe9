"""Fixtures of the tests of runs; `make_run` holds what they share."""

import paddle
import pytest
from make_run import photos, start

__all__ = ["photos", "start"]


@pytest.fixture(autouse=True)
def _quiet():
    paddle.seed(0)
