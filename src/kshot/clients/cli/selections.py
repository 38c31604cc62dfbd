"""``kshot select`` and ``kshot selectors``."""

from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.heat_map import heat_map
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, json_argument
from kshot.clients.sdk.selection import Selection
from kshot.formatting import content_text
from kshot.records import Content

_EXCERPT = 60


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(select)
    app.command()(selectors)


def select(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Pool to choose from.")],
    query: Annotated[
        str,
        typer.Argument(metavar="QUERY", help="The input to be answered; a JSON object gives named fields."),
    ],
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="How many.", show_default=False)] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="A name, or a JSON object with parameters.", show_default=False),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON", help="Which examples may be chosen.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Limit for all of them together.", show_default=False)
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Score every example, not only a shortlist.")
    ] = False,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Take a cheaper method where this one would be late.", show_default=False
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also tell why: what each one covers, what came close.")
    ] = False,
    render: Annotated[bool, typer.Option("--render", help="Print the assembled prompt instead.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the best demonstrations for a query.

    kshot select tickets "Where is my parcel?" --k 4

    kshot select tickets "Where is my parcel?" --method mmr --explain

    kshot select tickets '{"subject": "Parcel", "body": "Where is it?"}' --render

    kshot select tickets "Wo ist es?" --filter '{"field": "metadata.lang", "eq": "de"}'
    """
    session = Session.of(context, url, data, as_json=as_json)
    inputs: Content = json_argument(query, "QUERY") if query.lstrip().startswith("{") else query
    options: dict[str, Any] = {
        "k": k,
        "method": json_argument(method, "--method")
        if method is not None and method.startswith("{")
        else method,
        "filter": None if condition is None else json_argument(condition, "--filter"),
        "max_tokens": max_tokens,
        "exact": exact,
        "deadline_ms": deadline_ms,
        "explain": explain,
    }
    with session.client() as client:
        if render:
            rendered = client.render(pool, inputs, format="text", **options)
            if session.json:
                output.print_json(rendered)
            else:
                output.print_text(rendered.text or "")
            return
        chosen = client.select(pool, inputs, **options)
    if session.json:
        output.print_json(chosen.reply)
    else:
        _print_selection(chosen)


def _print_selection(chosen: Selection) -> None:
    output.print_table(
        ["#", "id", "input", "output", "score", "gain", "similarity", "tokens"],
        [
            [
                shown.rank + 1,
                shown.id,
                output.shortened(content_text(shown.inputs), _EXCERPT),
                output.shortened(content_text(shown.outputs), _EXCERPT),
                shown.score,
                shown.gain,
                shown.similarity,
                shown.tokens,
            ]
            for shown in chosen
        ],
        title=f"{len(chosen)} of {chosen.usage.eligible} by {chosen.method}, in prompt order",
    )
    tokens = f"{'about ' if chosen.usage.estimated else ''}{chosen.usage.tokens} tokens"
    total = chosen.reply.timing_ms.get("total")
    output.note(f"{tokens}{'' if total is None else f', {total:.1f} ms'}, selection {chosen.selection_id}")
    for warning in chosen.warnings:
        output.warn(f"{warning.message} [{warning.code}]")
    if chosen.explain is not None:
        if chosen.explain.coverage is not None:
            labels = {shown.id: shown.label for shown in chosen}
            output.print_lines(heat_map(chosen.explain.coverage, labels, output.out.width))
        output.print_table(
            ["came close", "score", "reason"],
            [[row.id, row.score, row.reason] for row in chosen.explain.rejected],
        )
        facts = {**chosen.explain.params, **chosen.explain.diagnostics}
        output.print_table(["fact", "value"], [[name, str(value)] for name, value in facts.items()])


def selectors(
    context: typer.Context, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the methods of selection, with their parameters.

    kshot selectors
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.selectors()
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["method", "what it does", "parameters"],
        [[info.name, info.summary, _parameters(info.parameters)] for info in found],
    )


def _parameters(schema: dict[str, Any]) -> str:
    properties: dict[str, Any] = schema.get("properties", {})
    return ", ".join(f"{name}={_default(field)}" for name, field in properties.items())


def _default(field: dict[str, Any]) -> str:
    return str(field["default"]) if "default" in field else "?"
