"""``kshot select`` and ``kshot selectors``."""

from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.heat_map import heat_map
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption, json_argument
from kshot.clients.sdk.selection import Selection
from kshot.formatting import content_text
from kshot.records import Content
from kshot.schemas.selections import SelectionReply

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
    exclude: Annotated[
        str | None,
        typer.Option("--exclude", metavar="JSON", help="Which examples may not.", show_default=False),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Least cosine to the query.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Limit for all of them together.", show_default=False)
    ] = None,
    packing: Annotated[
        str | None, typer.Option(help="What gives way to --max-tokens.", show_default=False)
    ] = None,
    order: Annotated[str | None, typer.Option(help="Order in the prompt.", show_default=False)] = None,
    stable: Annotated[
        str | None,
        typer.Option(
            metavar="N|JSON", help="Size of a core that is the same for every query.", show_default=False
        ),
    ] = None,
    sticky: Annotated[
        int | None,
        typer.Option(min=1, help="Number of clusters of queries with one set each.", show_default=False),
    ] = None,
    distinct: Annotated[
        str | None,
        typer.Option(
            metavar="COSINE|JSON",
            help="Show no two examples whose cosine reaches this.",
            show_default=False,
        ),
    ] = None,
    adaptive: Annotated[
        str | None,
        typer.Option(
            metavar="GAIN|JSON",
            help="Stop at the first pick that gains less per token.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="For methods that draw lots.")] = 0,
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

    ```
    kshot select tickets "Where is my parcel?" --k 4
    kshot select tickets "Where is my parcel?" --method mmr --explain
    kshot select tickets '{"subject": "Parcel", "body": "Where is it?"}' --render
    kshot select tickets "Wo ist es?" --filter '{"field": "metadata.lang", "eq": "de"}'
    kshot select tickets "Where is my parcel?" --stable '{"k": 3, "block_tokens": 16}' --adaptive 0.002
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    inputs: Content = json_argument(query, "QUERY") if query.lstrip().startswith("{") else query
    options: dict[str, Any] = {
        "k": k,
        "method": _named_or_object(method, "--method"),
        "filter": None if condition is None else json_argument(condition, "--filter"),
        "exclude": None if exclude is None else json_argument(exclude, "--exclude"),
        "min_score": min_score,
        "max_tokens": max_tokens,
        "packing": packing,
        "order": _named_or_object(order, "--order"),
        "stable": _number_or_object(stable, "--stable"),
        "sticky": sticky,
        "distinct": _number_or_object(distinct, "--distinct"),
        "adaptive": _number_or_object(adaptive, "--adaptive"),
        "seed": seed,
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


def _named_or_object(value: str | None, option: str) -> Any:
    return json_argument(value, option) if value is not None and value.lstrip().startswith("{") else value


def _number_or_object(value: str | None, option: str) -> Any:
    if value is None or value.lstrip().startswith("{"):
        return None if value is None else json_argument(value, option)
    try:
        number = float(value)
    except ValueError:
        raise typer.BadParameter(f"{option} is neither a number nor a JSON object: {value}") from None
    return int(number) if number.is_integer() else number


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
    output.note(_facts(chosen.reply))
    for warning in chosen.warnings:
        output.warn(f"{warning.message} [{warning.code}]")
    if chosen.reply.curve:
        output.print_table(
            ["pick", "gain", "tokens", "gain per token", "kept"],
            [
                [step.id, step.gain, step.tokens, step.gain_per_token, "yes" if step.kept else "no"]
                for step in chosen.reply.curve
            ],
        )
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


def _facts(reply: SelectionReply) -> str:
    """Tell how far the choice can be trusted, and what of the prompt is the same for other queries."""
    facts = [f"{reply.exactness}, {reply.usage.candidates} candidates scored"]
    if reply.prefix_hash is not None:
        usage = reply.usage
        facts.append(
            f"prefix {reply.prefix_hash} of {usage.prefix_tokens} tokens, {usage.cacheable_tokens} cacheable"
        )
    if reply.cluster is not None:
        facts.append(f"the set of {reply.cluster}")
    return "; ".join(facts)


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
