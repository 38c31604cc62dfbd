"""``kshot demo``: a whole round on packaged examples, in a folder that is thrown away."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.samples import QUERIES, TICKETS, SampleQuery, read_queries, sample_path
from kshot.clients.cli.session import JsonOption, Session
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidParameter, KshotError, Unavailable
from kshot.formatting import content_text

POOL = "tickets"
_SHOWN_QUERIES = 5
_EXCERPT = 44
_STOP_TIMEOUT_S = 30
_READY = "Listening on "
# The demo is not to touch what the environment names: another store, another folder, a public address.
_KEPT_VARIABLES = {"KSHOT_CACHE", "KSHOT_THREADS"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One query and what two methods chose for it."""

    query: SampleQuery
    first: Selection
    second: Selection

    @property
    def shared(self) -> int:
        """Demonstrations that both chose."""
        return len({shown.id for shown in self.first} & {shown.id for shown in self.second})


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSONL examples; default: support tickets.", show_default=False
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSONL queries; default: support tickets.", show_default=False
        ),
    ] = None,
    embedder: Annotated[str, typer.Option(help="minilm, or hashing, which needs no model.")] = "minilm",
    methods: Annotated[str, typer.Option(metavar="A,B", help="The two to compare.")] = "similarity,fused",
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=20, help="Demonstrations per query.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Start a server, store examples, compare two methods, print a prompt, and clean up.

    The queries shown are those on which the methods differ most.

    ```
    kshot demo
    kshot demo --embedder hashing --methods similarity,bm25
    ```
    """
    session = Session.of(context, as_json=as_json)
    first, second = _two_methods(methods)
    asked = read_queries(queries or sample_path(QUERIES))
    with running_server() as url, Client(url) as client:
        output.note(f"server at {url}, data in a temporary folder")
        with output.preparing():
            client.create_pool(POOL, embedder=embedder)
        stored = client.upsert_ndjson(POOL, file or sample_path(TICKETS), wait="indexed")
        output.note(f"{stored.accepted} examples stored with the {embedder} embedder")
        comparisons = _compare(client, asked, first, second, k)
    shown = sorted(comparisons, key=lambda one: one.shared)[:_SHOWN_QUERIES]
    if session.json:
        output.print_json([_as_json(one) for one in shown])
    else:
        _print(shown, first, second)


def _two_methods(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InvalidParameter(f"methods is {text!r}, wanted two names with a comma between them")
    return names[0], names[1]


def _compare(client: Client, asked: list[SampleQuery], first: str, second: str, k: int) -> list[Comparison]:
    inputs = [query.inputs for query in asked]
    chosen = [
        [_selection(answer) for answer in client.select_batch(POOL, inputs, k=k, method=method)]
        for method in (first, second)
    ]
    return [Comparison(*row) for row in zip(asked, *chosen, strict=True)]


def _selection(answer: Selection | KshotError) -> Selection:
    if isinstance(answer, KshotError):
        raise answer
    return answer


def _as_json(one: Comparison) -> dict[str, object]:
    return {
        "inputs": one.query.inputs,
        "expected": one.query.outputs,
        "shared": one.shared,
        "selections": [one.first.reply.model_dump(mode="json"), one.second.reply.model_dump(mode="json")],
    }


def _print(shown: list[Comparison], first: str, second: str) -> None:
    output.print_table(
        ["query, and the expected answer", first, second],
        [
            [_question(one.query), _listed(one.first, one.query), _listed(one.second, one.query)]
            for one in shown
        ],
        title="Where the methods differ most: demonstrations in prompt order, + with the expected answer",
        lines=True,
    )
    if shown:
        output.note(f"\nThe prompt of the last query by {second}:\n")
        output.print_text(shown[-1].second.text())
    output.note(
        "\nGo on with your own examples:\n"
        "  kshot serve                                             (in another terminal)\n"
        "  kshot ingest FILE.jsonl --pool mine --create\n"
        '  kshot select mine "a query" --method fused --explain\n'
        "or from Python, without a server:\n"
        "  from kshot import LocalClient\n"
        '  LocalClient("./kshot-data").select("mine", "a query").messages()'
    )


def _question(query: SampleQuery) -> str:
    return f"{output.shortened(content_text(query.inputs), 160)}\n-> {content_text(query.outputs)}"


def _listed(chosen: Selection, query: SampleQuery) -> str:
    return "\n".join(
        f"{'+' if shown.outputs == query.outputs else '-'} {content_text(shown.outputs)}: "
        f"{output.shortened(content_text(shown.inputs), _EXCERPT)}"
        for shown in chosen
    )


@contextmanager
def running_server() -> Iterator[str]:
    """Run ``kshot serve`` on a free port over an empty folder; yields its URL, and ends it afterwards.

    Raises
    ------
    Unavailable
        It did not start; its own words are on stderr.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KSHOT_") or name in _KEPT_VARIABLES
    }
    with tempfile.TemporaryDirectory(prefix="kshot-demo-") as folder:
        command = [sys.executable, "-m", "kshot", "serve", "--host", "127.0.0.1", "--port", "0"]
        options = ["--data", str(Path(folder) / "data"), "--log-level", "error", "--log-format", "console"]
        process = subprocess.Popen(  # noqa: S603  (this very interpreter, with fixed arguments)
            [*command, *options], stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(_READY):
                raise Unavailable(f"the demo's server did not start (exit code {process.wait()})")
            yield line.removeprefix(_READY).strip()
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
