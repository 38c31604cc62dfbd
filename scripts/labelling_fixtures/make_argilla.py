"""Make the Argilla fixtures with a real server and its SDK; see README.md of this folder."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from kshot.labelling import tasks_file
from tests.test_labelling.round_trip import ACTS, ANNA, BEN, FIXTURES, LABELS, tasks, tasks_of_fields

API_KEY = "argilla.apikey"
PASSWORD = "anna-and-ben"
START_S = 120


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run Argilla in a thread: SQLite, a Redis in memory, a search index that finds nothing."""
    os.environ |= {
        "ARGILLA_HOME_PATH": str(folder),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/argilla.db",
        "ARGILLA_ENABLE_TELEMETRY": "0",
        "HF_HUB_OFFLINE": "1",
        "USERNAME": "owner",
        "PASSWORD": PASSWORD,
        "API_KEY": API_KEY,
    }
    import fakeredis
    import redis
    import uvicorn

    redis.from_url = lambda *_, **__: fakeredis.FakeStrictRedis()
    from argilla_server.cli.database.migrate import migrate_db
    from argilla_server.cli.database.users.create_default import _create_default
    from argilla_server.search_engine import SearchEngine
    from argilla_server.settings import settings

    SearchEngine.registered_classes[settings.search_engine] = _no_search(SearchEngine)
    import asyncio

    migrate_db("head")
    asyncio.run(_create_default(API_KEY, PASSWORD, quiet=True))
    from argilla_server import app

    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    deadline = time.monotonic() + START_S
    while not running.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise SystemExit("Argilla did not start")
        time.sleep(0.2)
    yield url
    running.should_exit = True
    thread.join(30)


def _no_search(base: type[Any]) -> type[Any]:
    async def nothing(*_: Any, **__: Any) -> None:
        return None

    async def yes(*_: Any, **__: Any) -> bool:
        return True

    async def new_instance(cls: type[Any]) -> Any:
        return cls()

    methods: dict[str, Any] = dict.fromkeys(base.__abstractmethods__, nothing)
    return type("NoSearch", (base,), {**methods, "ping": yes, "new_instance": classmethod(new_instance)})


def main() -> None:
    """Make every file."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        import argilla as rg

        client = rg.Argilla(api_url=url, api_key=API_KEY)
        workspace = rg.Workspace(name="tickets", client=client).create()
        key_of = {}
        for who in (ANNA, BEN):
            user = rg.User(username=who, password=PASSWORD, role="annotator", client=client).create()
            user.add_to_workspace(workspace)
            key_of[who] = _key_of(url, who)

        settings = rg.Settings(
            fields=[rg.TextField(name="text")],
            questions=[rg.LabelQuestion(name="outputs", labels=list(LABELS))],
            metadata=[rg.IntegerMetadataProperty(name="kshot_rank")],
            distribution=rg.TaskDistribution(min_submitted=1),
            allow_extra_metadata=True,
        )
        dataset = rg.Dataset(name="labels", workspace=workspace, settings=settings, client=client).create()
        _log(dataset, tasks_file("argilla", tasks()), Path(folder))
        for act in ACTS:
            status = "discarded" if act.label is None else "submitted"
            _respond(url, key_of[act.who], dataset, f"t{act.rank}", status, act.label)
        _respond(url, key_of[BEN], dataset, "t8", "draft", "other")
        _save(dataset, "argilla", url)

        free = rg.Settings(
            fields=[rg.TextField(name="text")],
            questions=[
                rg.TextQuestion(name="reply", required=True),
                rg.RatingQuestion(name="urgency", values=[1, 2, 3, 4], required=False),
                rg.MultiLabelQuestion(name="topics", labels=["x", "y", "z"], required=False),
            ],
            allow_extra_metadata=True,
        )
        dataset = rg.Dataset(name="fields", workspace=workspace, settings=free, client=client).create()
        _log(dataset, tasks_file("argilla", tasks_of_fields()), Path(folder))
        answers = {"reply": "an “answer”\nof two lines", "urgency": 4, "topics": ["x", "z"]}
        _respond_all(url, key_of[ANNA], dataset, "f1", "submitted", answers)
        _respond_all(url, key_of[ANNA], dataset, "f2", "submitted", {"reply": "no", "topics": ["y"]})
        _save(dataset, "argilla_fields", url)


def _key_of(url: str, who: str) -> str:
    token = httpx.post(f"{url}/api/v1/token", data={"username": who, "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    return str(httpx.get(f"{url}/api/v1/me", headers=headers).json()["api_key"])


def _log(dataset: Any, written: bytes, folder: Path) -> None:
    """Let the SDK read our file and send it."""
    path = folder / f"{dataset.name}.json"
    path.write_bytes(written)
    dataset.records.from_json(path)
    sent = [record["id"] for record in json.loads(written)]
    if sorted(record.id for record in dataset.records) != sorted(sent):
        raise SystemExit("the server has other records than were sent")


def _respond(url: str, key: str, dataset: Any, record_id: str, status: str, label: str | None) -> None:
    _respond_all(url, key, dataset, record_id, status, {} if label is None else {"outputs": label})


def _respond_all(
    url: str, key: str, dataset: Any, record_id: str, status: str, values: dict[str, Any]
) -> None:
    """Answer as the web interface does; a second answer of one user replaces the first."""
    record = next(one for one in dataset.records if one.id == record_id)
    body = {
        "items": [
            {
                "record_id": str(record._server_id),  # noqa: SLF001  (the interface goes by it)
                "status": status,
                "values": {name: {"value": value} for name, value in values.items()},
            }
        ]
    }
    reply = httpx.post(
        f"{url}/api/v1/me/responses/bulk", json=body, headers={"X-Argilla-Api-Key": key}, timeout=30
    )
    reply.raise_for_status()
    if reply.json()["items"][0]["error"] is not None:
        raise SystemExit(f"the server refuses the response: {reply.text}")


def _save(dataset: Any, name: str, url: str) -> None:
    """Save the records in every shape that the SDK and the server write."""
    (FIXTURES / f"{name}.json").unlink(missing_ok=True)
    dataset.records.to_json(FIXTURES / f"{name}.json")
    _dump(f"{name}_flat.json", dataset.records.to_list(flatten=True))
    _dump(f"{name}_columns.json", dataset.records.to_dict())
    _dump(f"{name}_by_id.json", dataset.records.to_dict(orient="index"))
    _dump(f"{name}_serialized.json", [record.serialize() for record in dataset.records])
    dataset.records.to_datasets().to_json(FIXTURES / f"{name}_hugging_face.jsonl")
    listed = httpx.get(
        f"{url}/api/v1/datasets/{dataset.id}/records",
        params={"include": ["responses", "suggestions"]},
        headers={"X-Argilla-Api-Key": API_KEY},
    )
    listed.raise_for_status()
    _dump(f"{name}_api.json", listed.json()["items"])


def _dump(name: str, value: Any) -> None:
    (FIXTURES / name).write_text(json.dumps(value, default=str) + "\n", "utf-8")


if __name__ == "__main__":
    main()
