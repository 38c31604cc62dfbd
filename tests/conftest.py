"""Settings that every test folder shares."""

from collections.abc import Generator

import pytest
from hypothesis import settings

# No deadline: a loaded machine is not a defect. The same examples in every run: a failure must be the
# commit's doing, not chance's.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("fast", settings.get_profile("ci"), max_examples=30)
settings.load_profile("fast")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test marked ``vllm`` that skips itself: where vLLM is not tested, nobody must think it was."""
    report = yield
    if report.skipped and item.get_closest_marker("vllm") is not None:
        report.outcome = "failed"
        report.longrepr = f"a test marked vllm must not be skipped: {report.longreprtext}"
    return report
