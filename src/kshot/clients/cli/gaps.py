"""``kshot pool gaps``: what to annotate next."""

from itertools import islice
from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.formatting import content_text

_EXCERPT = 80


def register(app: typer.Typer) -> None:
    """Add the command to those about pools."""
    app.command()(gaps)


def gaps(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")],
    below: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="List queries whose nearest example has a lower cosine; default: the pool's gap_below.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the queries to which nothing in a pool came close, the worst first: what to annotate next.

    ```
    kshot pool gaps tickets
    kshot pool gaps tickets --below 0.5 --limit 100 --json
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = list(islice(client.gaps(name, below=below), limit + 1))
    shown = found[:limit]
    if session.json:
        output.print_json(shown)
        return
    if not shown:
        output.note(f"no gaps in pool {name}")
        return
    output.print_table(
        ["query", "similarity", "count", "last"],
        [
            [
                "(not kept)" if gap.query is None else output.shortened(content_text(gap.query), _EXCERPT),
                gap.best_similarity,
                gap.count,
                f"{gap.last_at:%Y-%m-%d %H:%M}",
            ]
            for gap in shown
        ],
    )
    if len(found) > limit:
        output.note(f"there are more than {limit}; --limit shows them")
