"""``kshot pool tune``: token layer and weights chosen by a pool's own labels."""

from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import finished_job
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.schemas.tuning import Estimate, TunedRelevance, TuneResult

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tune)


def tune(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")],
    apply: Annotated[bool, typer.Option("--apply", help="Change the settings as proposed.")] = False,
    queries: Annotated[
        int | None,
        typer.Option(
            min=50, max=1000, help="Examples that serve as queries; default: 400.", show_default=False
        ),
    ] = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(help="Token layer to compare, several times; default: a few.", show_default=False),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", "-k", min=1, max=50, help="Neighbours; default: 8.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which examples are drawn.")] = 0,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the token layer and the weights of the default method by the pool's labels.

    Examples serve as queries; what counts is how many of their nearest neighbours carry the same label. No
    language model takes part. Examples of the split `test` are left out. Nothing is proposed that is not
    better beyond noise, and nothing changes without `--apply`; another token layer means that all examples
    are embedded again.

        kshot pool tune tickets
        kshot pool tune tickets --apply
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        started = client.tune_pool(name, apply=apply, queries=queries, k=k, layers=layer or None, seed=seed)
        job = finished_job(client, started.id, f"tuning {name}")
        if job.result is None:
            output.fail(f"job {job.id} was cancelled")
            raise typer.Exit(1)
        result = TuneResult.model_validate(job.result)
        if result.job_id is not None:
            finished_job(client, result.job_id, f"embedding {name} again")
    if session.json:
        output.print_json(result)
    else:
        _print(result)


def _print(result: TuneResult) -> None:
    shown = result.compared[:_SHOWN]
    if result.before not in shown:
        shown = [*shown, result.before]
    output.print_table(
        ["token layer", *result.before.weights, f"agreement at {result.k}", ""],
        [
            [one.token_layer, *one.weights.values(), _interval(one.agreement), _standing(one, result)]
            for one in shown
        ],
        title=f"best of {len(result.compared)}, {result.queries} queries against {result.rows} examples",
    )
    for step in result.steps:
        what = "weights" if step.compares == "weights" else "another token layer"
        output.print_text(
            f"{what}: gain {_interval(step.gain)}, {'better' if step.accepted else 'not beyond noise'}"
        )
    if result.after is None:
        output.print_text("the present settings stay")
        return
    weights = ", ".join(f"{signal} {weight:g}" for signal, weight in result.after.weights.items())
    output.print_text(
        f"{'now' if result.applied else 'proposed'}: token layer {result.after.token_layer}, {weights}"
    )
    output.print_text(
        f"agreement {result.before.agreement.mean:.3f} before, {_interval(result.after.agreement)} after, on "
        "queries that had no say"
    )
    if not result.applied:
        output.note("nothing was changed: --apply does")


def _standing(one: TunedRelevance, result: TuneResult) -> str:
    if one == result.before:
        return "present"
    chosen = result.after
    is_chosen = chosen is not None and (one.token_layer, one.weights) == (chosen.token_layer, chosen.weights)
    return "chosen" if is_chosen else ""


def _interval(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
