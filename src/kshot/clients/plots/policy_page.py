"""A policy's report as one HTML file: nothing to install, nothing to fetch, no script."""

import base64
import hashlib
from datetime import datetime
from html import escape

from kshot.clients.plots.policy_series import ArmLine, arm_lines, middles, summary
from kshot.schemas.decisions import ArmReport, PolicyReport

_NONE = "–"
_WIDTH, _HEIGHT, _MARGIN = 900, 240, 46
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--faint:#5f6b7a;--grid:#e3e7ec;--page:#fff}
@media (prefers-color-scheme:dark){:root{--ink:#e8edf2;--faint:#a9b4c2;--grid:#323c47;--page:#151b21}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0}
main{max-width:960px;margin:0 auto;padding:24px}h1{margin:0 0 4px}h2{font-size:17px;margin:28px 0 4px}
.facts,figcaption{color:var(--faint)}figure{margin:0}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--faint)}.grid{stroke:var(--grid)}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:4px 10px}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:1px solid var(--grid)}
svg.swatch{display:inline-block;width:12px;height:12px;margin-right:8px;vertical-align:middle}
.alarm{border-left:4px solid #d55e00;padding:4px 12px;margin:12px 0}.wide{overflow-x:auto}
""".strip()


def policy_report_html(report: PolicyReport) -> str:
    """Return a page with a policy's traffic and rewards over time, and every number as a table.

    The page stands alone and loads nothing, by its own content security policy, and follows the reader's
    light or dark setting.

    Parameters
    ----------
    report : PolicyReport
        From ``client.policy_report``.
    """
    lines = arm_lines(report)
    # Colours of swatches are attributes of SVG, so that no inline style has to be allowed.
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'"
    title = escape(f"Policy {report.policy}")
    alarms = "".join(f'<p class="alarm">{escape(alarm.message)}</p>' for alarm in report.alarms)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="facts">{escape(summary(report))}</p>
{alarms}
<h2>Traffic</h2>
<figure>{_traffic(report, lines)}<figcaption>Share of decisions per period.</figcaption></figure>
<h2>Reward</h2>
<figure>{_rewards(report, lines)}<figcaption>Mean reward per period; bands are 95 % intervals that hold
however often they are looked at.</figcaption></figure>
<h2>Variants</h2>
<div class="wide">{_table(report, lines)}</div>
</main>
</body>
</html>
"""


def _traffic(report: PolicyReport, lines: list[ArmLine]) -> str:
    xs = _places(report)
    below = [0.0] * len(xs)
    areas = []
    for line in lines:
        above = [base + period.share for base, period in zip(below, line.periods, strict=True)]
        points = _points(xs, above) + " " + _points(xs[::-1], below[::-1])
        areas.append(
            f'<polygon points="{points}" fill="{line.colour}" fill-opacity="0.85">'
            f"<title>{escape(line.variant)}</title></polygon>"
        )
        below = above
    return _frame(report, "Share of decisions of every variant over time", "".join(areas))


def _rewards(report: PolicyReport, lines: list[ArmLine]) -> str:
    xs = _places(report)
    drawn = []
    for line in lines:
        known = [
            (x, period.mean, period.low, period.high)
            for x, period in zip(xs, line.periods, strict=True)
            if period.mean is not None and period.low is not None and period.high is not None
        ]
        if not known:
            continue
        at, means, lows, highs = (list(part) for part in zip(*known, strict=True))
        band = _points(at, highs) + " " + _points(at[::-1], lows[::-1])
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{_y(mean):.1f}" r="2.5" fill="{line.colour}"/>'
            for x, mean in zip(at, means, strict=True)
        )
        drawn.append(
            f'<polygon points="{band}" fill="{line.colour}" fill-opacity="0.13"/>'
            f'<polyline points="{_points(at, means)}" fill="none" stroke="{line.colour}" '
            f'stroke-width="2"{dash}><title>{escape(line.variant)}</title></polyline>{dots}'
        )
    return _frame(report, "Mean reward of every variant over time", "".join(drawn))


def _frame(report: PolicyReport, described: str, inside: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="{_MARGIN}" x2="{_WIDTH}" y1="{_y(level):.1f}" y2="{_y(level):.1f}"/>'
        f'<text x="{_MARGIN - 6}" y="{_y(level) + 4:.1f}" text-anchor="end">{level:g}</text>'
        for level in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    ends = ""
    if report.periods:
        first, last = report.periods[0].start, report.periods[-1].end
        ends = (
            f'<text x="{_MARGIN}" y="{_HEIGHT + 16}">{_time(first)}</text>'
            f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{_time(last)}</text>'
        )
    return (
        f'<svg viewBox="0 -8 {_WIDTH + 4} {_HEIGHT + 30}" role="img" aria-label="{escape(described)}">'
        f"{grid}{inside}{ends}</svg>"
    )


def _places(report: PolicyReport) -> list[float]:
    """Return the middle of every period across the frame."""
    times = middles(report)
    if not times:
        return []
    first, last = report.periods[0].start, report.periods[-1].end
    return [_MARGIN + (time - first) / (last - first) * (_WIDTH - _MARGIN) for time in times]


def _y(value: float) -> float:
    return _HEIGHT * (1.0 - value)


def _points(xs: list[float], values: list[float]) -> str:
    return " ".join(f"{x:.1f},{_y(value):.1f}" for x, value in zip(xs, values, strict=True))


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _table(report: PolicyReport, lines: list[ArmLine]) -> str:
    colour = {line.variant: line.colour for line in lines}
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("variant", "status", "decisions", "share", "outcomes", "mean reward", "95 % interval")
    )
    rows = "".join(_row(arm, colour[arm.variant]) for arm in report.arms)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(arm: ArmReport, colour: str) -> str:
    known = arm.low is not None and arm.high is not None
    cells = (
        arm.status,
        f"{arm.decisions:,}",
        f"{arm.share:.1%}",
        f"{arm.outcomes:,}",
        _NONE if arm.mean is None else f"{arm.mean:.4f}",
        f"{arm.low:.4f} to {arm.high:.4f}" if known else _NONE,
    )
    swatch = (
        f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" fill="{colour}"/></svg>'
    )
    return (
        f'<tr><th scope="row">{swatch}{escape(arm.variant)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )
