"""``kshot plan curve`` and ``kshot plan export``: what a plan buys, and its tasks for a labelling tool."""

from pathlib import Path
from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.plan_view import PlanArgument
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.clients.plots import budget_curve_html, budget_curve_png
from kshot.labelling import label_studio_config
from kshot.schemas.curves import CurvePoint


def register(app: typer.Typer) -> None:
    """Add the commands to those about plans."""
    app.command()(curve)
    app.command()(export)


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

    ```
    kshot plan curve PLAN
    kshot plan curve PLAN --png curve.png --html curve.html
    ```
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

    ```
    kshot plan export PLAN --format label-studio -o tasks.json --interface interface.xml
    kshot plan export PLAN --format csv > tasks.csv
    ```

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
