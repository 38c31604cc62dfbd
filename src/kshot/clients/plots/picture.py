"""A budget curve as a PNG, drawn with matplotlib."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kshot.clients.plots.canvas import DPI, FAINT, INK, blank_figure, style_axes
from kshot.clients.plots.series import STATISTICS, Series, facts, series_of
from kshot.schemas.curves import BudgetCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_SMALL: dict[str, Any] = {"va": "center", "fontsize": 9.5, "color": FAINT}
_STYLES: dict[str, Any] = {"mean": "solid", "p10": (0, (4, 2))}
_LEFT = 0.085
_SENTENCE_CHARACTERS, _LABEL_CHARACTERS = 120, 22


def budget_curve_png(curve: BudgetCurve, path: str | Path) -> None:
    """Draw a budget curve: coverage above, the method's own objective below, the answer as its subtitle.

    Parameters
    ----------
    curve : BudgetCurve
        From a plan's result.
    path : str or Path
        File to write, 1,680 by 1,080 pixels; an existing one is replaced.

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    OSError
        The file cannot be written.
    """
    figure = blank_figure("a budget curve as a picture")
    has_objective = any(point.value for point in curve.objective)
    if has_objective:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1), gridspec_kw={"hspace": 0.12})
        _draw_objective(lower, curve)
    else:
        upper = lower = figure.subplots()
    figure.subplots_adjust(left=_LEFT, right=0.775, top=0.84, bottom=0.085)
    series = series_of(curve)
    _draw_coverage(upper, curve, series)
    lower.set_xlabel(_x_label(curve), color=INK, fontsize=11, labelpad=6)
    _scale(lower, curve, series)
    figure.text(_LEFT, 0.945, "What each further label buys", fontsize=18, weight="bold", color=INK)
    sentence = textwrap.shorten(curve.needed.sentence, _SENTENCE_CHARACTERS, placeholder=" …")
    figure.text(_LEFT, 0.902, sentence, fontsize=12.5, color=INK)
    figure.text(_LEFT, 0.866, facts(curve), fontsize=10, color=FAINT)
    _draw_legend(upper, series)
    figure.align_ylabels()
    figure.savefig(path, format="png", dpi=DPI)


def _draw_coverage(axes: "Axes", curve: BudgetCurve, series: list[Series]) -> None:
    style_axes(axes)
    for one in reversed(series):
        budgets = [point.budget for point in one.points]
        for statistic, style in _STYLES.items():
            if one.has_band:
                low, high = (
                    [getattr(point, f"{statistic}_{end}") for point in one.points] for end in ("low", "high")
                )
                axes.fill_between(budgets, low, high, color=one.light, alpha=0.18, linewidth=0)
            values = [getattr(point, statistic) for point in one.points]
            width = 2.6 if one.key == "method" else 1.8
            axes.plot(budgets, values, color=one.light, linestyle=style, linewidth=width)
    lowest = min((getattr(point, "p10_low", point.p10) for one in series for point in one.points), default=0)
    axes.set_ylim(bottom=min(lowest, 0.85) - 0.02, top=1.0)
    axes.set_ylabel("cosine similarity to the nearest labelled row", color=INK, fontsize=11, labelpad=8)
    share = curve.needed.share
    axes.axhline(share, color=FAINT, linewidth=1, linestyle=(0, (1, 2)))
    _note(axes, (0.008, share), f"{100 * share:g} % of labelling everything", across=True)
    answers = {"method": curve.needed.budget, "random": curve.needed.random_budget}
    for one in reversed(series):
        if answer := answers.get(one.key):
            axes.plot(
                [answer],
                [share],
                "o",
                color=one.light,
                markerfacecolor="white",
                markeredgewidth=2.2,
                markersize=8,
                zorder=5,
                clip_on=False,
            )


def _draw_objective(axes: "Axes", curve: BudgetCurve) -> None:
    style_axes(axes)
    budgets = [point.budget for point in curve.objective]
    values = [point.value for point in curve.objective]
    colour = series_of(curve)[0].light
    axes.plot(budgets, values, color=colour, linewidth=2)
    axes.fill_between(budgets, values, color=colour, alpha=0.12, linewidth=0)
    axes.set_ylabel("objective", color=INK, fontsize=11, labelpad=8)
    axes.set_ylim(bottom=min(0.0, *values))
    axes.locator_params(axis="y", nbins=3)
    axes.yaxis.set_major_formatter("{x:,g}")


def _scale(axes: "Axes", curve: BudgetCurve, series: list[Series]) -> None:
    """Let equal ratios of labels be equally far apart, and mark the plan's end in every panel."""
    from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: PLC0415

    budgets = [point.budget for one in series for point in one.points]
    first, last = min(budgets, default=1), max(budgets, default=1)
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(first - 0.04 if first == 0 else first * 0.93, max(last, first + 1) * 1.05)
    axes.set_xticks(_ticks(first, last))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    figure = axes.figure
    for panel in figure.axes:
        if curve.budget:
            panel.axvline(curve.budget, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    if curve.budget:
        _note(figure.axes[0], (curve.budget, 0.03), f"plan: {curve.budget:,}")


def _ticks(first: int, last: int) -> list[int]:
    """Return powers of ten, and what is between them where there is room."""
    steps = (1, 2, 5) if last <= 1_000 else (1, 3) if last <= 10_000 else (1,)
    found = [step * 10**power for power in range(8) for step in steps if step * 10**power <= last]
    return [0, *found] if first == 0 else found or [first]


def _draw_legend(axes: "Axes", series: list[Series]) -> None:
    """Write the legend beside the axes: what each line is, in small print what it is for."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    top = 0.985
    for one in series:
        name = one.label
        if len(name) > _LABEL_CHARACTERS:
            name = name[: _LABEL_CHARACTERS - 1] + "…"
        _legend_row(axes, top, Line2D([], [], color=one.light, linewidth=3), name)
        notes = textwrap.wrap(one.note, 24)
        for number, note in enumerate(notes):
            axes.text(1.105, top - 0.047 - 0.04 * number, note, transform=axes.transAxes, **_SMALL)
        top -= 0.1 + 0.04 * len(notes)
    for statistic, label in STATISTICS.items():
        line = Line2D([], [], color=FAINT, linewidth=2, linestyle=_STYLES[statistic])
        _legend_row(axes, top, line, label)
        top -= 0.07


def _legend_row(axes: "Axes", top: float, line: "Line2D", label: str) -> None:
    line.set_data([1.025, 1.09], [top, top])
    line.set_transform(axes.transAxes)
    line.set_clip_on(False)
    axes.add_line(line)
    axes.text(1.105, top, label, transform=axes.transAxes, va="center", fontsize=11.5, color=INK)


def _note(axes: "Axes", place: tuple[float, float], text: str, *, across: bool = False) -> None:
    """Write beside a line that runs across the axes, or beside one that stands upright."""
    transform = axes.get_yaxis_transform() if across else axes.get_xaxis_transform()
    axes.annotate(
        text,
        place,
        xycoords=transform,
        xytext=(0, 4) if across else (5, 0),
        textcoords="offset points",
        fontsize=10,
        color=FAINT,
    )


def _x_label(curve: BudgetCurve) -> str:
    return "labels beside those there were" if curve.labelled else "labels"
