"""What a skipped test counts as."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import pytest

@pytest.mark.vllm
def test_marked():
    pytest.skip("no vLLM here")

@pytest.mark.vllm
@pytest.mark.skipif(True, reason="not today")
def test_marked_from_the_start():
    pass

@pytest.fixture
def absent():
    pytest.skip("no server here")

@pytest.mark.parametrize("kind", [pytest.param("vllm", marks=pytest.mark.vllm), "other"])
def test_of_a_fixture(absent, kind):
    pass

def test_not_marked():
    pytest.skip("no matter")

@pytest.mark.vllm
def test_passes():
    pass
"""


@pytest.mark.slow
def test_a_skipped_test_of_vllm_fails(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = vllm")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:xdist", "-rA", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "1 failed, 1 passed, 2 skipped, 2 errors" in done.stdout, done.stdout
    assert "a test marked vllm must not be skipped" in done.stdout
    assert "no server here" in done.stdout
    assert done.returncode == 1
