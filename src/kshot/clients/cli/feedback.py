"""``kshot feedback``: how a decision or a selection went."""

import json
from typing import Annotated, Literal

import typer

from kshot.clients.cli import output
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(feedback)


def feedback(
    context: typer.Context,
    value: Annotated[
        str | None,
        typer.Argument(help="A number, or true or false, in the metric's own unit.", show_default=False),
    ] = None,
    decision: Annotated[
        str | None, typer.Option("--decision", "-d", metavar="ID", help="The decision it is about.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", "-s", metavar="ID", help="The selection it is about.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", "-m", help="Default: the policy's; reward.")
    ] = None,
    demonstration: Annotated[
        str | None, typer.Option(help="The output that would have been right: it becomes a draft example.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    correct: Annotated[bool, typer.Option("--correct", help="Replace every value given before.")] = False,
    retract: Annotated[bool, typer.Option("--retract", help="Take back every value given before.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how a decision or a selection went.

    ```
    kshot feedback 1 --decision DECISION
    kshot feedback --selection SELECTION --demonstration "billing"
    ```
    """
    if correct and retract:
        raise InvalidInput("a value is corrected or retracted, not both")
    kind: Literal["reward", "correct", "retract"] = (
        "correct" if correct else "retract" if retract else "reward"
    )
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        reply = client.feedback(
            None if value is None else _number(value),
            metric,
            decision_id=decision,
            selection_id=selection,
            demonstration=demonstration,
            kind=kind,
            source=source,
        )
    if session.json:
        output.print_json(reply)
        return
    said = "known already, nothing changed" if reply.duplicate else "taken in"
    learnt = "; the policy learns from it" if reply.folded else ""
    output.print_text(f"{said}{learnt}")
    if reply.example_id is not None:
        output.print_text(f"draft example {reply.example_id}")
    for notice in reply.warnings:
        output.warn(notice.message)


def _number(value: str) -> float:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, bool | int | float):
        raise InvalidInput(f"value is {value!r}, wanted a number, true or false")
    return found
