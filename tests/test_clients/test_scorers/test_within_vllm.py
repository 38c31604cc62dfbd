"""What is marked ``vllm_offline``, run where vLLM is."""

from xml.etree import ElementTree as ET

import pytest

from tests.real_models import run_within_vllm

FILES = ("test_scorer_contract.py", "test_agreement.py")


@pytest.mark.vllm
@pytest.mark.parametrize("file", FILES)
def test_an_engine_in_the_same_process_passes_the_same_tests(tmp_path, file, record_property):
    report = tmp_path / "report.xml"
    done = run_within_vllm(
        f"tests/test_clients/test_scorers/{file}",
        *("-m", "vllm_offline", "-q", f"--junitxml={report}"),
        timeout_s=1200,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")}
    assert counts["tests"] > 10
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0)
    for found in suite.iter("property"):
        line = found.get("value", "")
        record_property("difference", line)
        print(line)  # noqa: T201
