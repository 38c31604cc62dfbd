"""``kshot pool difficulty``: how hard examples are by what a model says of their answers."""

from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import finished_job
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.schemas.difficulty import DifficultyResult, Measure


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(difficulty)


def difficulty(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")],
    perplexity: Annotated[
        bool,
        typer.Option("--perplexity", help="Go by the perplexity per token, not by the whole answer."),
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Make it the pool's difficulty_field.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the scorer how likely each answer is, given its question: the less, the harder.

    The method `cds` and the order `easy_to_hard` go by it once it is the pool's `difficulty_field`. Examples
    that are known already are not asked about again.

        kshot pool difficulty tickets
        kshot pool difficulty tickets --perplexity --apply
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        measure: Measure = "answer_perplexity" if perplexity else "answer_nll"
        started = client.measure_difficulty(name, measure=measure, apply=apply)
        job = finished_job(client, started.id, f"scoring the answers of {name}")
    if job.result is None:
        output.fail(f"job {job.id} was cancelled")
        raise typer.Exit(1)
    result = DifficultyResult.model_validate(job.result)
    if session.json:
        output.print_json(result)
        return
    found = result.difficulty
    output.print_table(
        [result.measure, "least", "median", "largest"],
        [[f"of {result.scored + result.kept} examples", found.least, found.median, found.largest]],
        title=f"by {result.model}: {result.scored} asked about, {result.kept} known before",
    )
    if result.failed:
        output.warn(f"{result.failed} of {result.examples} examples have no number: {result.failure}")
    if result.settings and not result.applied:
        output.note(f"difficulty_field was not changed: --apply makes it {result.measure}")
