"""A policy's report as a PNG, drawn with matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING

from kshot.clients.plots.canvas import DPI, INK, blank_figure, style_axes
from kshot.clients.plots.policy_series import ArmLine, arm_lines, middles, summary
from kshot.schemas.decisions import PolicyReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT = 0.075


def policy_report_png(report: PolicyReport, path: str | Path) -> None:
    """Draw a policy's report: traffic above, reward with intervals below.

    Parameters
    ----------
    report : PolicyReport
        From ``client.policy_report``.
    path : str or Path
        File to write, 1,680 by 1,080 pixels; an existing one is replaced.

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    OSError
        The file cannot be written.
    """
    figure = blank_figure("a policy's report as a picture")
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num  # noqa: PLC0415

    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3), gridspec_kw={"hspace": 0.1})
    figure.subplots_adjust(left=_LEFT, right=0.815, top=0.87, bottom=0.085)
    lines = arm_lines(report)
    times = [float(date2num(time)) for time in middles(report)]  # type: ignore[no-untyped-call]  # matplotlib's
    _draw_traffic(upper, lines, times)
    _draw_rewards(lower, lines, times)
    lower.set_xlabel("time of the decision (UTC)", color=INK, fontsize=11, labelpad=6)
    figure.text(_LEFT, 0.945, f"Policy {report.policy}", fontsize=18, weight="bold", color=INK)
    figure.text(_LEFT, 0.905, summary(report), fontsize=11.5, color=INK)
    handles, names = lower.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.825, 0.87), frameon=False)
    if times:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib's
        lower.xaxis.set_major_locator(locator)
        lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # likewise
    figure.align_ylabels()
    figure.savefig(path, format="png", dpi=DPI)


def _draw_traffic(axes: "Axes", lines: list[ArmLine], times: list[float]) -> None:
    style_axes(axes)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of decisions", color=INK, fontsize=11, labelpad=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if times:
        shares = [[period.share for period in line.periods] for line in lines]
        axes.stackplot(times, shares, colors=[line.colour for line in lines], alpha=0.85)


def _draw_rewards(axes: "Axes", lines: list[ArmLine], times: list[float]) -> None:
    style_axes(axes)
    axes.set_ylim(0, 1)
    axes.set_ylabel("mean reward, with 95 % intervals", color=INK, fontsize=11, labelpad=8)
    for line in lines:
        known = [
            (time, period.mean, period.low, period.high)
            for time, period in zip(times, line.periods, strict=True)
            if period.mean is not None and period.low is not None and period.high is not None
        ]
        if not known:
            axes.plot([], [], color=line.colour, label=line.variant)
            continue
        at, means, lows, highs = zip(*known, strict=True)
        axes.fill_between(at, lows, highs, color=line.colour, alpha=0.13, linewidth=0)
        style = "solid" if not line.dash else "dashed"
        axes.plot(
            at,
            means,
            color=line.colour,
            linestyle=style,
            linewidth=2.2,
            marker="o",
            markersize=3.5,
            label=line.variant,
        )
