"""What the feedback log says: events, and the decisions that they are about."""

import math
from dataclasses import dataclass
from enum import StrEnum

from kshot.arrays import Int64s
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.grid import WEIGHT_LIMIT


class EventKind(StrEnum):
    """What an event says of a decision."""

    REWARD = "reward"
    """A value of a metric."""
    CORRECT = "correct"
    """The value was another: in place of one reward, or of all of the metric."""
    RETRACT = "retract"
    """One reward, all of a metric or all there are are void; no default takes their place."""
    CANCEL = "cancel"
    """The decision is void, for good."""
    ACTIVATE = "activate"
    """What was decided was shown after all."""
    EXPIRE = "expire"
    """The window of a metric, or of all, has passed: defaults count where no value does."""
    SERVED = "served"
    """Another arm was shown than was chosen, or none of the policy's."""


@dataclass(frozen=True, slots=True)
class OutcomeEvent:
    """One line of the feedback log.

    Attributes
    ----------
    kind : EventKind
    at : float
        When the outcome happened, in seconds on the clock of ``decided_at``; tells late rewards.
    metric : str
        Of rewards and corrections; empty where a retraction or an expiry concerns every metric.
    value : float or None
        Of rewards and corrections, in the metric's own unit.
    weight : float
        Of rewards and corrections, in [0, 8].
    source : str or None
        Whom it is from.
    key : str
        The idempotency key.
    of : str or None
        The key of the one reward that is corrected or retracted; None: all of the metric.
    arm : str or None
        What was served, of `EventKind.SERVED`; None: none of the policy's arms.

    Raises
    ------
    InvalidParameter
        A number is not finite or outside its range, or what the kind needs is missing.
    """

    kind: EventKind
    at: float
    metric: str = ""
    value: float | None = None
    weight: float = 1.0
    source: str | None = None
    key: str = ""
    of: str | None = None
    arm: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.at):
            raise InvalidParameter(f"at is {self.at:g}, allowed finite seconds")
        if not 0.0 <= self.weight <= WEIGHT_LIMIT:
            raise InvalidParameter(f"weight is {self.weight:g}, allowed 0 to {WEIGHT_LIMIT:g}")
        if self.kind in (EventKind.REWARD, EventKind.CORRECT):
            if not self.metric:
                raise InvalidParameter(f"{self.kind} names no metric")
            if self.value is None or not math.isfinite(self.value):
                raise InvalidParameter(f"value is {self.value}, allowed a finite number")


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """What was decided.

    Attributes
    ----------
    id : str
    arm : str or None
        What was served; None where it was none of the policy's arms, as in shadow mode.
    context : int64 array, shape (d,)
        Features in units of 2**-16.
    decided_at : float
        In seconds.
    active : bool
        False where nothing counts before `EventKind.ACTIVATE`.
    """

    id: str
    arm: str | None
    context: Int64s
    decided_at: float
    active: bool = True
