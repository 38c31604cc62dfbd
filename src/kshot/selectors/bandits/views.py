"""What readers see of an arm: its sums as floats, whichever way they are kept."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np

from kshot.arrays import Float64s
from kshot.selectors.bandits.base import PolicyState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ArmView:
    """The sums of one arm, in natural units.

    Attributes
    ----------
    n : int
        Outcomes.
    weight, reward, square : float
        Sums of weight, weight times reward, weight times squared reward.
    gram : float64 array, shape (d, d)
        ``sum w z z^T``.
    moment : float64 array, shape (d,)
        ``sum w r z``.
    squared_gram : float64 array, shape (d, d), or None
        ``sum w g^2 z z^T`` where each outcome counts by its discount g; None where nothing is forgotten, as
        it then equals ``gram``.
    """

    n: int
    weight: float
    reward: float
    square: float
    gram: Float64s
    moment: Float64s
    squared_gram: Float64s | None = None


@dataclass(frozen=True, slots=True)
class Memo:
    """Results that follow from something that never changes, kept so that they are found once.

    At most ``limit`` of them; all are dropped when there are more. Any number of threads may use it: at worst
    two find the same result.
    """

    limit: int = 4
    found: dict[Hashable, Any] = field(default_factory=dict)

    def get(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what ``find`` returned for this key, now or before."""
        value = self.found.get(key)
        if value is None:
            value = find()
            if len(self.found) >= self.limit:
                self.found.clear()
            self.found[key] = value
        return cast("T", value)


@dataclass(slots=True)
class Latest(Generic[T]):
    """The latest result of something that is asked again and again about the same numbers.

    Any number of threads may use it: at worst two find the same result.
    """

    held: tuple[Float64s, T] | None = None

    def get(self, given: Float64s, find: Callable[[], T]) -> T:
        """Return what ``find`` returned for these numbers, just before or now."""
        held = self.held
        if held is None or not np.array_equal(held[0], given):
            held = (given.copy(), find())
            self.held = held
        return held[1]


class ArmRecord(Protocol):
    """One arm's sums inside a state; never changed."""

    @property
    def memo(self) -> Memo:
        """What was derived from the sums."""
        ...


class LearntState(PolicyState, Protocol):
    """A state of sums per arm: exact, or forgetting."""

    @property
    def dimension(self) -> int:
        """Features of a context; 0 if none are kept."""
        ...

    @property
    def memo(self) -> Memo:
        """What was derived from the state as a whole."""
        ...

    @property
    def arms(self) -> Mapping[str, ArmRecord]:
        """The sums of every arm with outcomes."""
        ...

    def clock(self, now: float) -> float:
        """Return the moment, at or before ``now``, for which `view` is to be asked; in seconds."""
        ...

    def view(self, arm: str, clock: float) -> ArmView | None:
        """Return an arm's sums as floats, as of a moment; None if nothing is known of it."""
        ...
