"""``kshot policy report`` and ``evaluate``: how a policy does, and what others would have earned."""

from pathlib import Path
from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.clients.plots import policy_report_html, policy_report_png


def register(app: typer.Typer) -> None:
    """Add the commands to those about policies."""
    app.command()(report)
    app.command()(evaluate)


def report(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")],
    periods: Annotated[int, typer.Option(min=1, max=500, help="Parts of equal length of the time.")] = 24,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw it; needs kshot[plots].", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page.", show_default=False)
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell traffic and reward of every variant, with intervals that hold however often you look.

    ```
    kshot policy report greeting
    kshot policy report greeting --png greeting.png --html greeting.html
    ```
    """
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client:
        found = client.policy_report(name, periods=periods)
    if png is not None:
        policy_report_png(found, png)
        output.note(f"drawn to {png}")
    if html is not None:
        html.write_text(policy_report_html(found), "utf-8")
        output.note(f"written to {html}")
    if session.json:
        output.print_json(found)
        return
    output.print_table(
        ["variant", "status", "decisions", "share", "outcomes", "reward", "from", "to"],
        [
            [one.variant, one.status, one.decisions, one.share, one.outcomes, one.mean, one.low, one.high]
            for one in found.arms
        ],
        whole={"variant"},
    )
    if found.policy_mean is not None and found.hold_out_mean is not None:
        output.print_text(
            f"mean reward {found.policy_mean:.4f}; of decisions made evenly {found.hold_out_mean:.4f}"
        )
    if found.winner is not None:
        output.print_text(f"the experiment has found its best variant: {found.winner}")
    for alarm in found.alarms:
        output.warn(alarm.message)


def evaluate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")],
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", "-v", help="Always this variant; repeatable."),
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option("--algorithm", "-a", help="This algorithm; repeatable."),
    ] = None,
    estimator: Annotated[
        str,
        typer.Option(
            "--estimator",
            "-e",
            help="clipped_dr, dr, ips, clipped_ips, snips, dm, sndr, switch or dros.",
        ),
    ] = "clipped_dr",
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate from the log what other policies would have earned.

    Where the log says too little about one, the reason stands in place of its estimate.

    ```
    kshot policy evaluate greeting
    kshot policy evaluate greeting --variant short --algorithm lin_ucb --estimator snips
    ```
    """
    targets = [{"variant": one} for one in variant or []] + [{"algorithm": one} for one in algorithm or []]
    session = Session.of(context, url, data, as_json=as_json)
    with session.client() as client, output.preparing():
        found = client.evaluate_policy(name, targets, estimator=estimator, seed=seed)
    if session.json:
        output.print_json(found)
        return
    if found.earned is not None:
        output.print_text(
            f"earned: {found.earned:.4f} ({found.earned_low:.4f} to {found.earned_high:.4f}), "
            f"{found.decisions} decisions with an outcome and a probability"
        )
    output.print_table(
        ["target", "estimate", "from", "to", "effective decisions", "remark"],
        [
            [one.target, one.value, one.low, one.high, one.effective_sample_size, one.refusal or "-"]
            for one in found.data
        ],
    )
