"""``kshot plan``: what to label next."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import with_progress
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, json_argument
from kshot.clients.cli.sources import Columns, count_lines, format_of, read_lines
from kshot.clients.plots import budget_curve_html, budget_curve_png
from kshot.clients.sdk.client import Client
from kshot.formatting import content_text
from kshot.labelling import label_studio_config
from kshot.records import JobState
from kshot.schemas.curves import CurvePoint
from kshot.schemas.plans import PlanInfo, PlannedExample

app = typer.Typer(
    name="plan", help="Plan what to label under a budget, and take the labels back.", no_args_is_help=True
)
_EXCERPT = 60
_SHOWN = 10

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="Id of the plan; `kshot plan ls`.")]


@app.command()
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
            help="A name, or a JSON object with parameters; `kshot plan methods`. [default: facility_location]",
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

        kshot plan create tickets --budget 300
        kshot plan create tickets --budget 100 --file unlabelled.jsonl --create
        kshot plan create tickets --max-cost 5000 --cost-field metadata.words --strata metadata.lang
        kshot plan create tickets -b 50 --method '{"type": "ideal", "n_neighbors": 20}' --gaps 100
    """
    session = Session.of(context, url, data, as_json=as_json)
    if (budget is None) == (max_cost is None):
        raise typer.BadParameter("give --budget or --max-cost")
    options: dict[str, Any] = {
        "method": json_argument(method, "--method")
        if method is not None and method.startswith("{")
        else method,
        "filter": None if condition is None else json_argument(condition, "--filter"),
        "cost_field": cost_field,
        "strata": None if strata is None else {"field": strata},
        "confidence_field": confidence_field,
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
        _print(plan, items)


@app.command("ls")
def list_plans(
    context: typer.Context,
    pool: Annotated[
        str | None, typer.Option("--pool", "-p", help="Only plans of this pool.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List plans, newest first."""
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = list(islice(client.list_plans(pool), limit))
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["plan", "pool", "method", "state", "planned", "made"],
        [
            [
                one.id,
                one.pool,
                one.request.get("method") if one.result is None else one.result.method,
                one.state,
                None if one.result is None else one.result.planned,
                f"{one.created_at:%Y-%m-%d %H:%M}",
            ]
            for one in found
        ],
    )


@app.command()
def show(
    context: typer.Context,
    plan_id: PlanArgument,
    limit: Annotated[int, typer.Option(min=1, help="Examples to list at most.")] = 50,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a plan proposes, and what became of it.

    kshot plan show 0b9c --limit 300
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        plan = client.get_plan(plan_id)
        items = [] if plan.result is None else list(islice(client.plan_items(plan_id), limit))
    if session.json:
        output.print_json({"plan": plan, "items": items})
    elif plan.result is None:
        reason = "" if plan.error is None else f": {plan.error.get('detail')}"
        output.print_text(f"plan {plan.id} is {plan.state}{reason}")
    else:
        _print(plan, items)


@app.command()
def curve(
    context: typer.Context,
    plan_id: PlanArgument,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw it; needs kshot[plots].", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write an interactive page.", show_default=False),
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each further label buys: coverage by a plan, at random and by k-center.

    Coverage is the cosine of every unlabelled example to its nearest labelled one.

        kshot plan curve PLAN
        kshot plan curve PLAN --png curve.png --html curve.html
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        plan = client.get_plan(plan_id)
    if plan.result is None or plan.result.curve is None:
        why = f"it is {plan.state}" if plan.result is None else "it was made without"
        output.fail(f"plan {plan_id} has no curve: {why}")
        raise typer.Exit(1)
    found = plan.result.curve
    if png is not None:
        budget_curve_png(found, png)
        output.note(f"drawn to {png}")
    if html is not None:
        html.write_text(budget_curve_html(found), "utf-8")
        output.note(f"written to {html}")
    if session.json:
        output.print_json(found)
        return
    at_random = {point.budget: point for point in found.random.points}
    by_k_center = {point.budget: point for point in found.k_center or []}
    output.print_table(
        ["labels", f"{found.method}, mean", "p10", "random, mean", "p10", "k_center, mean", "p10"],
        [
            [
                point.budget,
                point.mean,
                point.p10,
                *_pair(at_random.get(point.budget)),
                *_pair(by_k_center.get(point.budget)),
            ]
            for point in found.points
        ],
    )
    output.print_text(found.needed.sentence)


def _pair(point: CurvePoint | None) -> tuple[float | None, float | None]:
    return (None, None) if point is None else (point.mean, point.p10)


@app.command()
def export(
    context: typer.Context,
    plan_id: PlanArgument,
    form: Annotated[
        str,
        typer.Option("--format", "-f", help="label-studio, argilla, prodigy, csv or jsonl."),
    ] = "jsonl",
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is labelled or retired since.")
    ] = False,
    interface: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a labelling interface for Label Studio, with the pool's labels.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a plan proposes as a file for a labelling tool, the first to label first.

        kshot plan export PLAN --format label-studio -o tasks.json --interface interface.xml
        kshot plan export PLAN --format csv > tasks.csv

    `kshot plan import` takes the answers back.
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        written = client.export_plan(plan_id, form, everything=everything)
        labels = []
        if interface is not None:
            pool = client.get_plan(plan_id).pool
            labels = [] if pool is None else list(client.pool_stats(pool).by_label)
    if interface is not None:
        interface.write_text(label_studio_config(labels), "utf-8")
    if target is None:
        typer.echo(written, nl=False)
    else:
        target.write_bytes(written)
        output.note(f"{len(written)} bytes written to {target}")


@app.command()
def cancel(
    context: typer.Context,
    plan_id: PlanArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a plan that is not made yet."""
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        plan = client.cancel_plan(plan_id)
    if session.json:
        output.print_json(plan)
    else:
        output.print_text(f"plan {plan.id} is {plan.state}")


@app.command()
def methods(
    context: typer.Context, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the methods of planning and their parameters."""
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.planners().data
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["method", "what it chooses", "parameters"],
        [[one.name, one.summary, ", ".join(one.parameters.get("properties", {})) or "-"] for one in found],
        lines=True,
    )


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


def _print(plan: PlanInfo, items: list[PlannedExample]) -> None:
    result = plan.result
    assert result is not None
    cost = "" if result.cost is None else f", cost {result.cost:g}"
    output.print_text(
        f"plan {plan.id}: {result.planned} of {result.unlabelled} unlabelled examples by {result.method}"
        f"{cost}, beside {result.labelled} labelled ones"
    )
    for notice in result.notices:
        output.note(notice.message)
    if result.strata is not None:
        output.print_table(
            ["stratum", "unlabelled", "planned"],
            [[one.value, one.unlabelled, one.planned] for one in result.strata],
        )
    if result.graph is not None and not result.graph.exact:
        output.note(f"neighbours found by an index: {result.graph.recall:.1%} of the true ones, on a sample")
    if result.curve is not None:
        output.print_text(result.curve.needed.sentence)
    output.print_table(
        ["rank", "id", "gain", "cost", "state", "inputs"],
        [
            [
                item.rank,
                item.id,
                item.gain,
                item.cost,
                item.state,
                "-" if item.inputs is None else output.shortened(content_text(item.inputs), _EXCERPT),
            ]
            for item in items
        ],
    )
    if len(items) < result.planned:
        output.note(
            f"and {result.planned - len(items)} more: kshot plan show {plan.id} --limit {result.planned}"
        )
