"""Make the Label Studio fixtures with a real server; see README.md of this folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from label_studio_sdk import LabelStudio
from label_studio_sdk.label_interface import LabelInterface

from kshot.labelling import label_studio_config, tasks_file
from tests.test_labelling.round_trip import ACTS, ANNA, BEN, FIXTURES, LABELS, tasks, tasks_of_fields

TOKEN = "0" * 40
START_S = 180
FIELDS_CONFIG = """<View>
  <Text name="subject" value="$subject"/>
  <Text name="body" value="$body"/>
  <Choices name="label" toName="body" choice="single"><Choice value="a"/><Choice value="b"/></Choices>
  <Choices name="topics" toName="body" choice="multiple"><Choice value="x"/><Choice value="y"/></Choices>
  <TextArea name="reply" toName="body" maxSubmissions="1"/>
  <Rating name="urgency" toName="body"/>
</View>
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run Label Studio on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [Path(sys.executable).with_name("label-studio"), "start", "--no-browser"]
    command += ["--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--username", ANNA, "--password", "anna-and-ben", "--user-token", TOKEN]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            return
    raise SystemExit("Label Studio did not start")


class Project:
    """A project of the server, with its tasks by id."""

    def __init__(self, client: LabelStudio, title: str, config: str, written: bytes) -> None:
        rows = json.loads(written)
        interface = LabelInterface(config)
        interface.validate()
        for row in rows:
            if not interface.validate_task({"data": row["data"]}):
                raise SystemExit(f"the SDK refuses {row}")
            if any(not interface.validate_prediction(one) for one in row["predictions"] if one["result"]):
                raise SystemExit(f"the SDK refuses the prediction of {row}")
        self.client = client
        self.id = client.projects.create(title=title, label_config=config).id
        made = client.projects.import_tasks(self.id, request=rows, return_task_ids=True)
        if (made.task_count, made.prediction_count) != (len(rows), len(rows)):
            raise SystemExit(f"the server took {made}")
        self.task_of = {
            row["data"].get("kshot_id", "foreign"): task
            for row, task in zip(rows, made.task_ids, strict=True)
        }

    def annotate(self, task: int, user: int, result: list[Any], *, is_skip: bool = False) -> None:
        """Submit one annotation."""
        self.client.annotations.create(
            task, result=result, completed_by=user, was_cancelled=is_skip, lead_time=1.5
        )

    def save(self, form: str, name: str) -> None:
        """Save an export."""
        chunks = self.client.projects.exports.download_sync(
            self.id, export_type=form, download_all_tasks=True
        )
        (FIXTURES / name).write_bytes(b"".join(chunks))


def check_priority(client: LabelStudio) -> None:
    """Have the Data Manager sort tasks that were imported in the wrong order."""
    rows = json.loads(tasks_file("label-studio", tasks(), labels=LABELS))[::-1]
    project = client.projects.create(title="priority", label_config=label_studio_config(LABELS)).id
    client.projects.import_tasks(project, request=rows)
    view = client.views.create(project=project, data={"ordering": ["-tasks:predictions_score"]})
    ranks = [task.data["kshot_rank"] for task in client.tasks.list(view=view.id, fields="all")]
    if ranks != sorted(ranks) or len(ranks) != len(rows):
        raise SystemExit(f"the Data Manager sorts the ranks {ranks}")


def result(question: str, to_name: str, kind: str, **value: Any) -> dict[str, Any]:
    """Return one result of an annotation."""
    return {"from_name": question, "to_name": to_name, "type": kind, "value": value}


def main() -> None:
    """Make every file."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        client = LabelStudio(base_url=url, api_key=TOKEN)
        user_of = {ANNA: client.users.whoami().id, BEN: client.users.create(email=BEN, username="ben").id}

        check_priority(client)

        labels = Project(
            client, "labels", label_studio_config(LABELS), tasks_file("label-studio", tasks(), labels=LABELS)
        )
        for act in ACTS:
            chosen = (
                [] if act.label is None else [result("kshot_outputs", "text", "choices", choices=[act.label])]
            )
            task = labels.task_of[f"t{act.rank}"]
            labels.annotate(task, user_of[act.who], chosen, is_skip=act.label is None)
        # Somebody adds a task of their own to the project.
        foreign = client.projects.import_tasks(
            labels.id, request=[{"data": {"text": "not from a plan"}}], return_task_ids=True
        )
        labels.annotate(
            foreign.task_ids[0],
            user_of[ANNA],
            [result("kshot_outputs", "text", "choices", choices=["other"])],
        )
        labels.save("JSON", "label_studio.json")
        labels.save("JSON_MIN", "label_studio_min.json")
        labels.save("CSV", "label_studio.csv")

        texts = Project(
            client, "free text", label_studio_config(), tasks_file("label-studio", tasks_of_fields())
        )
        written = [result("kshot_outputs", "text", "textarea", text=["an “answer”\nof two lines"])]
        texts.annotate(texts.task_of["f1"], user_of[BEN], written)
        texts.save("JSON", "label_studio_text.json")
        texts.save("JSON_MIN", "label_studio_text_min.json")

        fields = Project(client, "fields", FIELDS_CONFIG, tasks_file("label-studio", tasks_of_fields()))
        fields.annotate(
            fields.task_of["f1"],
            user_of[ANNA],
            [
                result("label", "body", "choices", choices=["a"]),
                result("topics", "body", "choices", choices=["x", "y"]),
                result("reply", "body", "textarea", text=["thanks"]),
                result("urgency", "body", "rating", rating=4),
            ],
        )
        fields.annotate(
            fields.task_of["f2"], user_of[ANNA], [result("label", "body", "choices", choices=["b"])]
        )
        fields.save("JSON", "label_studio_fields.json")
        fields.save("JSON_MIN", "label_studio_fields_min.json")


if __name__ == "__main__":
    main()
