"""The lines of a budget curve: their names, their colours, their points."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kshot.schemas.curves import BudgetCurve, CurvePoint, RandomPoint

STATISTICS = {"mean": "mean", "p10": "10th percentile"}
"""What is drawn of the cosines at each budget, by field."""
K_CENTER = "k_center"
_COLOURS = {
    # Of the palette by Okabe and Ito, which people with any colour vision tell apart; the second of each
    # pair is for a dark background.
    "method": ("#0072b2", "#56b4e9"),
    "random": ("#5f6b7a", "#a9b4c2"),
    K_CENTER: ("#d55e00", "#e69f00"),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line per statistic, and a band around it where there are several orders.

    Attributes
    ----------
    key : str
        ``method``, ``random`` or ``k_center``.
    label : str
        As a legend says it.
    note : str
        What the legend adds in small print; may be empty.
    light, dark : str
        Colours for a light and for a dark background.
    points : sequence of CurvePoint
    """

    key: str
    label: str
    note: str
    points: Sequence[CurvePoint]
    light: str = field(init=False)
    dark: str = field(init=False)

    def __post_init__(self) -> None:
        light, dark = _COLOURS[self.key]
        object.__setattr__(self, "light", light)
        object.__setattr__(self, "dark", dark)

    @property
    def has_band(self) -> bool:
        """Whether the points say how far several orders lie apart."""
        return any(isinstance(point, RandomPoint) for point in self.points)


def series_of(curve: BudgetCurve) -> list[Series]:
    """Return the lines of a curve, the plan's own first; k-center is not drawn twice."""
    found = [
        Series("method", curve.method, "the plan", curve.points),
        Series("random", "random", f"{curve.random.seeds} orders; band: 8 of 10", curve.random.points),
    ]
    if curve.k_center and curve.method != K_CENTER:
        found.append(Series(K_CENTER, "k-center", "for comparison", curve.k_center))
    return found


def facts(curve: BudgetCurve) -> str:
    """Say in one line what was measured."""
    parts = [f"{curve.budget:,} labels planned"]
    if curve.labelled:
        parts.append(f"{curve.labelled:,} labelled before")
    parts.append(f"{curve.unlabelled:,} unlabelled")
    if curve.rows_measured < curve.unlabelled:
        parts.append(f"measured on {curve.rows_measured:,} of them")
    return " · ".join(parts)
