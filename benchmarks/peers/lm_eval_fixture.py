r"""Record what lm-evaluation-harness makes of the test suite's own 200 questions.

    make vllm
    python3 -m venv .venv-lm-eval && .venv-lm-eval/bin/pip install "lm-eval[api]==0.4.13" transformers
    .venv/bin/python benchmarks/peers/lm_eval_fixture.py .venv-lm-eval/bin/python

Its ``local-completions`` back end asks a vLLM on this machine's CPU; the log-likelihoods are written to
``tests/test_clients/test_scorers/golden/harness.json``, which a test compares kshot's with.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.real_models import VLLM_NAME, smollm2, vllm_server
from tests.test_clients.test_scorers.choice_items import choice_items, processor

TARGET = ROOT / "tests" / "test_clients" / "test_scorers" / "golden" / "harness.json"


def main(python: str) -> None:
    """Ask, and write what was answered."""
    items = choice_items()
    with tempfile.TemporaryDirectory() as folder, vllm_server() as server:
        file = Path(folder) / "items.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
        job = {
            "url": server.url,
            "model": VLLM_NAME,
            "tokenizer": str(smollm2()),
            "items": str(file),
            "concurrent": 8,
            "batch": 16,
        }
        done = subprocess.run(
            [python, str(Path(__file__).with_name("lm_eval_task.py"))],
            input=json.dumps(job),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    told = json.loads(done.stdout)
    recorded = {
        "harness": told["version"],
        "processor": processor(),
        "accuracy": told["accuracy"],
        "nats": [[round(nats, 4) for nats in options] for options in told["nats"]],
    }
    TARGET.parent.mkdir(exist_ok=True)
    rows = ",\n".join(json.dumps(row) for row in recorded.pop("nats"))
    head = json.dumps(recorded)[:-1]
    TARGET.write_text(f'{head}, "nats": [\n{rows}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
