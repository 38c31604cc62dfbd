"""Budget curves on the wire: what each further label buys."""

from pydantic import Field

from kshot.schemas.base import Reply


class CurvePoint(Reply):
    """Coverage after some labels: cosines of the measured rows to their nearest labelled row."""

    budget: int = Field(description="labels beside those that there were before; 0 is the state before")
    mean: float = Field(description="mean of the cosines, in [-1, 1]")
    p10: float = Field(description="a tenth of the cosines are lower")


class RandomPoint(CurvePoint):
    """Coverage after some random labels: means over the random orders, and where eight of ten orders lie."""

    mean_low: float
    mean_high: float
    p10_low: float
    p10_high: float


class RandomSeries(Reply):
    """What labelling at random buys."""

    seeds: int = Field(description="random orders")
    points: list[RandomPoint]


class ObjectivePoint(Reply):
    """The method's own objective after some labels: the sum of its gains, in its own unit."""

    budget: int
    value: float


class LabelsNeeded(Reply):
    """How many labels reach a share of the coverage of labelling everything."""

    share: float
    budget: int | None = Field(description="by the plan's method; null: more than were tried")
    random_budget: int | None = Field(description="at random; null: more than were tried")
    tried: int = Field(description="labels up to which the method's order was followed")
    random_tried: int = Field(description="labels up to which random orders were followed")
    sentence: str = Field(description="the same in one line")


class BudgetCurve(Reply):
    """Coverage against the budget: of a plan, of random choices and of k-center."""

    method: str
    budget: int = Field(description="labels of the plan; its curve may go on where the method can")
    labelled: int = Field(description="rows that were labelled before")
    unlabelled: int = Field(description="rows that were not")
    rows_measured: int = Field(
        description="rows whose nearest labelled row was looked for: the unlabelled ones, of many a sample"
    )
    points: list[CurvePoint] = Field(description="the plan's method")
    random: RandomSeries
    k_center: list[CurvePoint] | None = Field(
        description="k-center, up to the plan's budget; of large pools it chooses among the measured rows. "
        "null: it would have taken too long"
    )
    objective: list[ObjectivePoint]
    needed: LabelsNeeded
