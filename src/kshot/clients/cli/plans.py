"""``kshot plan``: plans that were made, and the methods that make them."""

from itertools import islice
from typing import Annotated

import typer

from kshot.clients.cli import output, plan_create, plan_import, plan_output
from kshot.clients.cli.plan_view import PlanArgument, print_plan
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption

app = typer.Typer(
    name="plan", help="Plan what to label under a budget, and take the labels back.", no_args_is_help=True
)
plan_create.register(app)


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
    """List plans, newest first.

    kshot plan ls --pool tickets
    """
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
        whole={"plan"},
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

    kshot plan show PLAN --limit 300
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
        print_plan(plan, items)


@app.command()
def cancel(
    context: typer.Context,
    plan_id: PlanArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a plan that is not made yet.

    kshot plan cancel PLAN
    """
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
    """List the methods of planning and their parameters.

    kshot plan methods --json
    """
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


plan_output.register(app)
plan_import.register(app)
