"""``kshot plan create``: what to label next."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import with_progress
from kshot.clients.cli.plan_view import print_plan
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, json_argument
from kshot.clients.cli.sources import Columns, count_lines, format_of, read_lines
from kshot.clients.sdk.client import Client
from kshot.records import JobState
from kshot.schemas.plans import PlanInfo

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to those about plans."""
    app.command()(create)


def create(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Pool that the examples are in.")],
    budget: Annotated[
        int | None, typer.Option("--budget", "-b", min=1, help="Examples to label.", show_default=False)
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0.0, help="What labelling may cost, instead of --budget.", show_default=False),
    ] = None,
    cost_field: Annotated[
        str | None,
        typer.Option(metavar="metadata.NAME", help="What labelling an example costs.", show_default=False),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="A name, or a JSON object with parameters; `kshot plan methods`. "
            "[default: facility_location]",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="Unlabelled examples to store first.", show_default=False
        ),
    ] = None,
    new_pool: Annotated[bool, typer.Option("--create", help="Create the pool if it is not there.")] = False,
    embedder: Annotated[
        str | None, typer.Option(help="Embedder of a pool made by --create.", show_default=False)
    ] = None,
    input_field: Annotated[
        list[str] | None,
        typer.Option(help="Column of the input in FILE; may be repeated.", show_default=False),
    ] = None,
    metadata_fields: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns of FILE to keep as metadata.", show_default=False),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(help="Column of the id in FILE.", show_default=False)
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help="Which examples take part.", show_default=False),
    ] = None,
    strata: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Give each value of this field its share: `split`, `metadata.lang`, ...",
            show_default=False,
        ),
    ] = None,
    gaps: Annotated[int, typer.Option(min=0, help="Worst-covered queries to add as examples first.")] = 0,
    confidence_field: Annotated[
        str | None,
        typer.Option(metavar="metadata.NAME", help="How sure a model is of its answer.", show_default=False),
    ] = None,
    ask_scorer: Annotated[
        bool,
        typer.Option("--ask-scorer", help="Ask the server's language model for confidences instead."),
    ] = False,
    tag_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Tags, for `mig`.", show_default=False)
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Also say what each further label buys.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is left to chance.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the plan is made.")] = True,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which unlabelled examples to label, in which order, and what that buys.

    Examples with outputs count as covered, so that the next plan goes on where the last one ended.

    ```
    kshot plan create tickets --budget 300
    kshot plan create tickets --budget 100 --file unlabelled.jsonl --create
    kshot plan create tickets --max-cost 5000 --cost-field metadata.words --strata metadata.lang
    kshot plan create tickets -b 50 --method '{"type": "ideal", "n_neighbors": 20}' --gaps 100
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    if (budget is None) == (max_cost is None):
        given = "received neither" if budget is None else "received both"
        raise typer.BadParameter(f"give either --budget or --max-cost; {given}")
    options: dict[str, Any] = {
        "method": json_argument(method, "--method")
        if method is not None and method.startswith("{")
        else method,
        "filter": None if condition is None else json_argument(condition, "--filter"),
        "cost_field": cost_field,
        "strata": None if strata is None else {"field": strata},
        "confidence_field": confidence_field,
        "confidence": "scorer" if ask_scorer else None,
        "tag_field": tag_field,
    }
    with session.client() as client:
        if new_pool:
            with output.preparing():
                client.create_pool(pool, exist_ok=True, embedder=embedder)
        if file is not None:
            columns = Columns(tuple(input_field or ()), (), _names(metadata_fields), id_field)
            _upload(client, pool, file, columns)
        started = client.plan(
            pool,
            budget=budget,
            max_cost=max_cost,
            gaps=gaps,
            curve=curve,
            seed=seed,
            wait=False,
            **{name: value for name, value in options.items() if value is not None},
        )
        plan = _finished(client, started) if wait else started
        items = list(islice(client.plan_items(plan.id), _SHOWN)) if plan.result is not None else []
    if session.json:
        output.print_json(plan)
    elif plan.result is None:
        output.print_text(f"plan {plan.id} is {plan.state}: kshot plan show {plan.id}")
    else:
        print_plan(plan, items)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _upload(client: Client, pool: str, file: Path, columns: Columns) -> None:
    """Store the examples of a file; those that are there, perhaps labelled since, stay as they are."""
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    kind = format_of(file)
    with with_progress(f"storing in {pool}", count_lines(file, kind)) as advance:
        reply = client.upsert_ndjson(
            pool, read_lines(file, kind, columns), wait="none", existing="keep", on_progress=advance
        )
    output.note(f"pool {pool}: {reply.created} new, {reply.unchanged} there already")
    for row in reply.rejected[:_SHOWN]:
        output.warn(f"line {row.line}: {row.pointer or 'row'} {row.message} [{row.code}]")
    if len(reply.rejected) > _SHOWN:
        output.warn(f"and {len(reply.rejected) - _SHOWN} more rejected rows")


def _finished(client: Client, plan: PlanInfo) -> PlanInfo:
    """Wait for a plan with a progress bar; whoever stops waiting stops the plan."""
    with with_progress("planning", None) as advance:

        def tell(seen: PlanInfo) -> None:
            advance(seen.done, seen.total, f"planning: {seen.phase or 'waiting'}")

        try:
            finished = client.wait_plan(plan.id, on_progress=tell)
        except KeyboardInterrupt:
            client.cancel_plan(plan.id)
            raise
    if finished.state is JobState.CANCELLED:
        output.fail(f"plan {plan.id} was cancelled")
        raise typer.Exit(1)
    return finished
