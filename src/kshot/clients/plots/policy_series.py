"""The lines of a policy's report: one per variant, over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kshot.schemas.decisions import ArmPeriod, PolicyReport

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f6b7a")
"""Of the palette by Okabe and Ito, which people with any colour vision tell apart; then grey."""
DASHES = ("", "6 3", "2 2")
"""For what comes after the last colour."""


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One variant over the periods.

    Attributes
    ----------
    variant : str
    colour, dash : str
        As CSS and SVG have them; dash is empty for a solid line.
    periods : sequence of ArmPeriod
    """

    variant: str
    colour: str
    dash: str
    periods: Sequence[ArmPeriod]


def arm_lines(report: PolicyReport) -> list[ArmLine]:
    """Return the lines of a report, those with the most decisions first."""
    order = sorted(report.arms, key=lambda arm: (-arm.decisions, arm.variant))
    by_name = [{arm.variant: arm for arm in period.arms} for period in report.periods]
    return [
        ArmLine(
            variant=arm.variant,
            colour=COLOURS[index % len(COLOURS)],
            dash=DASHES[index // len(COLOURS) % len(DASHES)],
            periods=[arms[arm.variant] for arms in by_name if arm.variant in arms],
        )
        for index, arm in enumerate(order)
    ]


def middles(report: PolicyReport) -> list[datetime]:
    """Return the middle of every period."""
    return [period.start + (period.end - period.start) / 2 for period in report.periods]


def summary(report: PolicyReport) -> str:
    """Say in one line what was decided and how it went."""
    decisions = sum(arm.decisions for arm in report.arms)
    outcomes = sum(arm.outcomes for arm in report.arms)
    parts = [f"{decisions:,} decisions", f"{outcomes:,} outcomes"]
    if report.policy_mean is not None:
        parts.append(f"mean reward {report.policy_mean:.3f}")
    if report.hold_out_mean is not None:
        parts.append(f"decided evenly {report.hold_out_mean:.3f}")
    if report.winner is not None:
        parts.append(f"winner {report.winner}")
    return " · ".join(parts)
