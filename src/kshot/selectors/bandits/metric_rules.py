"""What a metric's values mean, and what they come to as the reward of a decision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple

from kshot.errors import InvalidParameter

Aggregate = Literal["first", "last", "sum", "max", "mean"]
"""What several values of a metric for one decision come to, in the order of the log."""

RANGE_LIMIT = 1e12
"""Values of metrics are at most as large."""


class LatePolicy(StrEnum):
    """What becomes of a reward that comes after its window."""

    LOG_ONLY = "log_only"
    """It is kept in the log, and nothing is learnt from it."""
    FOLD = "fold"
    """It is learnt from as any other, and takes the place of a default."""


class Valued(NamedTuple):
    """A value of a metric that counts: its idempotency key, the value and its weight in (0, 8]."""

    key: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class MetricRule:
    """How a policy learns from a metric.

    Attributes
    ----------
    boolean : bool
        Whether values are 0 or 1; ``low`` and ``high`` are 0 and 1 then.
    low, high : float
        The declared range of values, in the metric's own unit; ``low < high``, within 1e12.
    better : str
        ``"high"``: ``high`` is a reward of 1. ``"low"``: ``low`` is.
    window_s : float
        How long after the decision a reward is in time, in seconds, > 0; 24 hours by default.
    default : float or None
        What an expired decision without value counts as, in the metric's own unit; None: it counts for
        nothing. That is without bias only if no arm's outcomes are missing more often than another's.
    aggregate : str
        ``first`` and ``last`` in the order of the log, ``sum`` (clipped to the range), ``max`` (the value,
        better or not) or ``mean`` (weighted).
    late : LatePolicy
    share : float
        Of several metrics: the part of this one in the reward, > 0, against the others' parts.

    Raises
    ------
    InvalidParameter
        A value is outside its range.
    """

    boolean: bool = False
    low: float = 0.0
    high: float = 1.0
    better: Literal["high", "low"] = "high"
    window_s: float = 86_400.0
    default: float | None = None
    aggregate: Aggregate = "last"
    late: LatePolicy = LatePolicy.LOG_ONLY
    share: float = 1.0

    def __post_init__(self) -> None:
        if not -RANGE_LIMIT <= self.low < self.high <= RANGE_LIMIT:
            raise InvalidParameter(
                f"range is {self.low:g} to {self.high:g}, allowed low < high within {RANGE_LIMIT:g}"
            )
        if self.boolean and (self.low, self.high) != (0.0, 1.0):
            raise InvalidParameter(f"range of a boolean is {self.low:g} to {self.high:g}, allowed 0 to 1")
        if self.better not in ("high", "low"):
            raise InvalidParameter(f"better is {self.better!r}, allowed 'high', 'low'")
        if self.aggregate not in ("first", "last", "sum", "max", "mean"):
            raise InvalidParameter(
                f"aggregate is {self.aggregate!r}, allowed 'first', 'last', 'sum', 'max', 'mean'"
            )
        for name in ("window_s", "share"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidParameter(f"{name} is {value:g}, allowed finite and > 0")
        if self.default is not None:
            self.check(self.default)

    def check(self, value: float) -> None:
        """Refuse a value that the metric cannot have.

        Raises
        ------
        InvalidParameter
            It is not finite, outside the range, or neither 0 nor 1 where the metric is boolean.
        """
        if self.boolean:
            if value not in (0.0, 1.0):
                raise InvalidParameter(f"value is {value:g}, allowed true or false")
        elif not self.low <= value <= self.high:
            raise InvalidParameter(f"value is {value:g}, allowed {self.low:g} to {self.high:g}")

    def reward(self, value: float) -> float:
        """Return a value as a reward in [0, 1], 1 the best; what is outside the range is clipped to it."""
        clipped = min(max(value, self.low), self.high)
        part = (clipped - self.low) / (self.high - self.low)
        return part if self.better == "high" else 1.0 - part

    def aggregated(self, values: Sequence[Valued]) -> tuple[float, float]:
        """Return the reward, in [0, 1], and the weight that values come to, at least one, in log order.

        The weight is that of the value taken, or the mean weight where all count. Sums are rounded once, so
        that the order matters to ``first`` and ``last`` only.
        """
        match self.aggregate:
            case "first":
                taken = values[0]
            case "last":
                taken = values[-1]
            case "max":
                taken = max(values, key=lambda one: (one.value, one.weight))
            case "sum":
                weight = math.fsum(one.weight for one in values) / len(values)
                return self.reward(math.fsum(one.value for one in values)), weight
            case "mean":
                total = math.fsum(one.weight for one in values)
                mean = math.fsum(one.value * one.weight for one in values) / total
                return self.reward(mean), total / len(values)
        return self.reward(taken.value), taken.weight


@dataclass(frozen=True, slots=True)
class RewardRules:
    """What a policy learns from.

    Attributes
    ----------
    metrics : mapping of str to MetricRule
        By the metric's name; events of others change nothing. Of several, the reward is the mean of those
        that are known, each by its share.
    sources : mapping of str to float
        How far feedback from a source is trusted, in [0, 1]; sources that are not named count as 1, and what
        comes from a source of 0 is as if it had never come.
    """

    metrics: Mapping[str, MetricRule]
    sources: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, trust in self.sources.items():
            if not 0.0 <= trust <= 1.0:
                raise InvalidParameter(f"source {name!r} has weight {trust:g}, allowed 0 to 1")

    def trust(self, source: str | None) -> float:
        """Return the weight of a source, in [0, 1]."""
        return 1.0 if source is None else self.sources.get(source, 1.0)
