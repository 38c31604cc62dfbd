"""How a plan is shown."""

from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.formatting import content_text
from kshot.schemas.plans import PlanInfo, PlannedExample

_EXCERPT = 60

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="Id of the plan; `kshot plan ls`.")]


def print_plan(plan: PlanInfo, items: list[PlannedExample]) -> None:
    """Print what a plan comes to, and the first of its examples."""
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
