"""``kshot ingest``: a file into a pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kshot.clients.cli import output
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.clients.cli.sources import Columns, Format, count_lines, format_of, read_lines
from kshot.clients.sdk.client import Client
from kshot.schemas.examples import UpsertReply
from kshot.schemas.operations import JobInfo

_SHOWN = 20


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Show what is done, and of how much, or what it is now, if that is known only now."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ingest)


def ingest(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file; `-` is stdin."),
    ],
    pool: Annotated[str, typer.Option("--pool", "-p", metavar="POOL", help="Pool to store into.")],
    create: Annotated[bool, typer.Option("--create", help="Create the pool if it is not there.")] = False,
    embedder: Annotated[
        str | None, typer.Option(help="Embedder of a pool made by --create.", show_default=False)
    ] = None,
    input_field: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the input; several times for an input of named fields.", show_default=False
        ),
    ] = None,
    output_field: Annotated[
        list[str] | None,
        typer.Option(help="Column of the output; may be repeated likewise.", show_default=False),
    ] = None,
    metadata_fields: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to keep as metadata.", show_default=False)
    ] = None,
    id_field: Annotated[str | None, typer.Option(help="Column of the id.", show_default=False)] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the file's name.", show_default=False),
    ] = None,
    keep_existing: Annotated[
        bool, typer.Option("--keep-existing", help="Leave examples as they are whose ids are stored already.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Rows per request.")] = 500,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the examples of a JSONL, CSV or Parquet file.

    A line of JSONL is an example: `{"inputs": "Where is it?", "outputs": "order_status"}`; `id`, `metadata`,
    `split`, `status`, `subject_id` and `group` are optional. Of other files, or other names, say which
    columns hold what. Bad rows are listed by line and stop no other; the exit code is 1 if there are any.

        kshot ingest tickets.jsonl --pool tickets --create
        kshot ingest mails.csv -p mails --input-field subject --input-field body --output-field label
        zcat big.jsonl.gz | kshot ingest - -p big
    """
    session = Session.of(context, url, data, as_json=as_json)
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    kind = form or format_of(file)
    names = tuple(name.strip() for name in (metadata_fields or "").split(",") if name.strip())
    columns = Columns(tuple(input_field or ()), tuple(output_field or ()), names, id_field)
    with session.client() as client:
        if create:
            with output.preparing():
                client.create_pool(pool, exist_ok=True, embedder=embedder)
        lines = read_lines(file, kind, columns)
        with with_progress(f"ingesting into {pool}", count_lines(file, kind)) as advance:
            reply = client.upsert_ndjson(
                pool,
                lines,
                existing="keep" if keep_existing else "update",
                batch_size=batch_size,
                on_progress=advance,
            )
    report(reply, pool, as_json=session.json)


@contextmanager
def with_progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on stderr, if that is a terminal; yields what moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=output.err, disable=not output.err.is_terminal) as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int, total: int | None = None, what: str | None = None) -> None:
            progress.update(task, completed=done, total=total, description=what)

        yield advance


def report(reply: UpsertReply, pool: str, *, as_json: bool) -> None:
    """Tell what became of the rows; the exit code is 1 if some were rejected."""
    if as_json:
        output.print_json(reply.model_dump(mode="json", exclude={"ids"}))
    else:
        output.print_text(
            f"pool {pool}: {reply.accepted} stored ({reply.created} new, {reply.updated} updated, "
            f"{reply.unchanged} unchanged), {len(reply.rejected)} rejected"
        )
    for row in reply.rejected[:_SHOWN]:
        output.warn(f"line {row.line}: {row.pointer or 'row'} {row.message} [{row.code}]")
    if len(reply.rejected) > _SHOWN:
        output.warn(f"and {len(reply.rejected) - _SHOWN} more rejected rows")
    if reply.notices:
        first = reply.notices[0]
        output.note(f"{len(reply.notices)} notices, the first on line {first.line}: {first.message}")
    if not reply.indexed:
        output.note("the rows are stored; they can be selected once the index has caught up")
    if reply.rejected:
        raise typer.Exit(1)


def finished_job(client: Client, job_id: str, what: str) -> JobInfo:
    """Wait for the end of a job; whoever stops waiting stops the job."""
    with with_progress(what, None) as advance:
        try:
            return client.wait_job(job_id, on_progress=lambda job: advance(job.done, job.total))
        except KeyboardInterrupt:
            client.cancel_job(job_id)
            raise
