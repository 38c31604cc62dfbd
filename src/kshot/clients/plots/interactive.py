"""A budget curve as one HTML file: nothing to install, nothing to fetch."""

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any

from kshot.clients.plots.series import STATISTICS, Series, facts, series_of
from kshot.schemas.curves import BudgetCurve, CurvePoint, RandomPoint

_TITLE = "What each further label buys"
_NONE = "–"


def budget_curve_html(curve: BudgetCurve) -> str:
    """Return an interactive page: hover or slide to read the curves, choose what is shown.

    The page stands alone and loads nothing, by its own content security policy. It follows the reader's light
    or dark setting, works by keyboard, and holds every number as a table, also where no script runs.

    Parameters
    ----------
    curve : BudgetCurve
        From a plan's result.
    """
    style, script = _resource("budget_curve.css"), _resource("budget_curve.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    series = series_of(curve)
    described = _described(curve, series)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(f"{_TITLE}: {curve.method}")}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{_TITLE}</h1>
<p class="answer">{escape(curve.needed.sentence)}</p>
<p class="facts">{escape(f"{curve.method} · {facts(curve)}")}</p>
<div class="layout" data-scripted hidden>
<figure>
<svg id="chart" role="img" aria-labelledby="chart-title" data-title="{escape(described)}"></svg>
</figure>
<div class="side">
<div class="panel controls">
<fieldset><legend>Show</legend>
{"".join(map(_series_choice, series))}</fieldset>
<fieldset><legend>Statistic</legend>
{"".join(_statistic_choice(key, label) for key, label in STATISTICS.items())}</fieldset>
<fieldset><legend>Scale</legend>
<div class="inline"><label><input type="radio" name="scale" value="log" checked>logarithmic</label>
<label><input type="radio" name="scale" value="linear">linear</label></div></fieldset>
</div>
<div class="panel">
<label class="title" for="budget">Budget</label>
<output id="at" for="budget" aria-live="polite"></output>
<input type="range" id="budget" min="0" max="0" step="1" value="0">
<table><thead><tr><th></th><th scope="col">mean</th><th scope="col">10th pct.</th></tr></thead>
<tbody>{"".join(map(_readout_row, series))}{_objective_row(curve)}</tbody></table>
</div>
</div>
</div>
<details{"" if curve.points else " open"}><summary>All numbers</summary>
<div class="wide">{_table(curve, series)}</div></details>
<noscript><p class="unscripted">The chart needs JavaScript; the table has the same numbers.</p></noscript>
</main>
<script type="application/json" id="curve">{_data(curve, series)}</script>
<script>{script}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return files("kshot.clients.plots").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _described(curve: BudgetCurve, series: Iterable[Series]) -> str:
    names = ", ".join(one.label for one in series)
    return f"Similarity of all rows to their nearest labelled row against the budget, for {names}. " + (
        curve.needed.sentence
    )


def _series_choice(series: Series) -> str:
    return (
        f'<label class="choice {series.key}"><input type="checkbox" data-toggles="series" '
        f'value="{series.key}" checked><span class="swatch"></span>'
        f"<span>{escape(series.label)}<small>{escape(series.note)}</small></span></label>\n"
    )


def _statistic_choice(key: str, label: str) -> str:
    return (
        f'<label class="choice"><input type="checkbox" data-toggles="statistics" value="{key}" checked>'
        f'<span class="swatch {key}"></span><span>{label}</span></label>\n'
    )


def _readout_row(series: Series) -> str:
    return (
        f'<tr data-row="{series.key}"><th scope="row" class="{series.key}">{escape(series.label)}</th>'
        f'<td data-cell="mean">{_NONE}</td><td data-cell="p10">{_NONE}</td></tr>'
    )


def _objective_row(curve: BudgetCurve) -> str:
    if not any(point.value for point in curve.objective):
        return ""
    return f'<tr><th scope="row">objective</th><td colspan="2" data-cell="objective">{_NONE}</td></tr>'


def _table(curve: BudgetCurve, series: list[Series]) -> str:
    """Write every number: a row for each budget."""
    head = "".join(
        f'<th scope="col">{escape(one.label)}, {label}</th>'
        for one in series
        for label in STATISTICS.values()
    )
    named = [{point.budget: point for point in one.points} for one in series]
    objective = {point.budget: point.value for point in curve.objective}
    rows = []
    for budget in sorted({budget for points in named for budget in points}):
        cells = [_cell(points.get(budget), key) for points in named for key in STATISTICS]
        value = f"{objective[budget]:.6g}" if budget in objective else _NONE
        rows.append(f'<tr><th scope="row">{budget:,}</th>{"".join(cells)}<td>{value}</td></tr>')
    return (
        f'<table><thead><tr><th scope="col">labels</th>{head}<th scope="col">objective</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(point: CurvePoint | None, key: str) -> str:
    if point is None:
        return f"<td>{_NONE}</td>"
    text = f"{getattr(point, key):.4f}"
    if isinstance(point, RandomPoint):
        low, high = getattr(point, f"{key}_low"), getattr(point, f"{key}_high")
        text += f"<small>{low:.4f}–{high:.4f}</small>"
    return f"<td>{text}</td>"


def _data(curve: BudgetCurve, series: list[Series]) -> str:
    """Write what the script draws, as JSON that cannot end the element it stands in."""
    data: dict[str, Any] = {
        "budget": curve.budget,
        "labelled": curve.labelled,
        "share": curve.needed.share,
        "needed": {"method": curve.needed.budget, "random": curve.needed.random_budget},
        "series": [
            {"key": one.key, "points": [point.model_dump() for point in one.points]} for one in series
        ],
        "objective": [point.model_dump() for point in curve.objective],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
