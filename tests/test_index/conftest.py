"""Settings of the index's tests."""

import os

import pytest


@pytest.fixture(scope="module")
def without_fsync():
    """Do not wait for the disk; what is durable is tested where it is promised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
