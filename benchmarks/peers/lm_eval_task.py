"""lm-evaluation-harness over a completion server, as a peer for `benchmarks/lm_eval_harness.py`.

Runs in an environment of its own. Reads {"url", "model", "tokenizer", "items", "concurrent", "batch"} from
standard input, where "items" is a file of {"input", "options", "answer"} lines, and prints {"nats": [[...],
...], "accuracy", "seconds", "version"}: the log-likelihood of every option of every item, and how long all
requests took, tokenising included.
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

job = json.load(sys.stdin)
os.environ["HF_HUB_OFFLINE"] = "1"
# Standard output is for the answer alone.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import lm_eval
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

TASK = """
task: kshot_items
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{input}}}}\\nAnswer:"
doc_to_target: answer
doc_to_choice: options
metric_list: [{{metric: acc}}]
"""
arguments = {
    "base_url": f"{job['url']}/v1/completions",
    "model": job["model"],
    "tokenizer": job["tokenizer"],
    "tokenizer_backend": "huggingface",
    "add_bos_token": False,
    "max_length": 2048,
    "num_concurrent": job["concurrent"],
    "batch_size": job["batch"],
}
with tempfile.TemporaryDirectory() as folder:
    os.environ["HF_DATASETS_CACHE"] = folder
    (Path(folder) / "items.yaml").write_text(TASK.format(items=job["items"]))
    model = get_model("local-completions")(**arguments)
    asked = model.loglikelihood
    took_s = []

    def timed(requests, **settings):
        """Ask, and note how long it takes."""
        started = time.perf_counter()
        found = asked(requests, **settings)
        took_s.append(time.perf_counter() - started)
        return found

    model.loglikelihood = timed
    report = lm_eval.simple_evaluate(
        model=model,
        tasks=["kshot_items"],
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
samples = sorted(report["samples"]["kshot_items"], key=lambda sample: sample["doc_id"])
told = {
    "nats": [[float(option[0]) for option in sample["filtered_resps"]] for sample in samples],
    "accuracy": report["results"]["kshot_items"]["acc,none"],
    "seconds": sum(took_s),
    "version": version("lm_eval"),
}
answers.write(json.dumps(told) + "\n")
answers.flush()
