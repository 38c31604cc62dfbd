"""The policy contract: which variant to serve for a query, and how outcomes change the answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from kshot.arrays import Float64s, require_finite, require_shape
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors.bandits.addends import Addends

State = TypeVar("State", bound="PolicyState")


class PropensityKind(StrEnum):
    """How the probability of a decision is known."""

    EXACT = "exact"
    """In closed form."""
    QUADRATURE = "quadrature"
    """By numerical integration; the arm was drawn from the very probabilities that are reported."""
    FORCED = "forced"
    """Only one arm could be served."""
    EXTERNAL = "external"
    """The caller chose: unknown, and of no use to off-policy evaluation."""


@dataclass(frozen=True, slots=True)
class ArmPrior:
    """What is believed of an arm before its first outcome.

    Attributes
    ----------
    reward : float
        Expected reward, in [0, 1].
    events : float
        How many outcomes of that reward the belief is worth, >= 0.
    theta : float64 array, shape (d,), or None
        Coefficients that a linear policy's ridge penalty pulls to; ``reward`` for the intercept and 0 for all
        others by default.
    """

    reward: float = 0.5
    events: float = 0.0
    theta: Float64s | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.reward <= 1:
            raise InvalidParameter(f"a prior's reward is {self.reward}, allowed 0 to 1")
        if not 0 <= self.events < math.inf:
            raise InvalidParameter(f"a prior is worth {self.events} outcomes, allowed finite and >= 0")
        if self.theta is not None:
            require_shape("theta", self.theta, (None,))
            require_finite("theta", self.theta)


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What a policy has seen of an arm: ``n`` outcomes, their weight, weighted mean and variance."""

    n: int
    weight: float
    mean: float | None
    variance: float | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy decides on.

    Attributes
    ----------
    arms : tuple of str, length K >= 1
        Those that may be served, sorted, distinct; any subset of those known, and any that are new.
    context : float64 array, shape (d,)
        Features on the grid (`kshot.selectors.bandits.grid.snapped`), the last of them the intercept 1.
    penalties : float64 array, shape (K,), or None
        What is subtracted from each arm's expected reward, such as a cost times a price.
    priors : mapping of str to ArmPrior
        Where an arm's differs from the policy's own.
    pending : mapping of str to int64 array, shape (m, d)
        Contexts on the grid, in units of 2**-16, of decisions whose outcomes are awaited, per arm. They
        narrow widths, and change no mean.
    now : float
        In seconds; only policies that forget look at it.
    vectors : mapping of str to float64 array, shape (g,)
        What describes arms, such as a projection of their texts, of as many arms as are known; only policies
        whose arms share what they learn look at it.
    """

    arms: tuple[str, ...]
    context: Float64s
    penalties: Float64s | None = None
    priors: Mapping[str, ArmPrior] = field(default_factory=dict)
    pending: Mapping[str, Any] = field(default_factory=dict)
    now: float = 0.0
    vectors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.arms:
            raise InvalidInput("no arm may be served; allowed at least one")
        if list(self.arms) != sorted(set(self.arms)):
            raise InvalidInput("arms are not sorted and distinct")
        require_shape("context", self.context, (None,))
        require_finite("context", self.context)
        if self.penalties is not None:
            require_shape("penalties", self.penalties, (len(self.arms),))
            require_finite("penalties", self.penalties)


@dataclass(frozen=True, slots=True)
class Choice:
    """Probabilities of the arms of a situation, in its order.

    Attributes
    ----------
    probabilities : float64 array, shape (K,)
        Sum to 1 within 1e-9.
    means : float64 array, shape (K,)
        Expected rewards before penalties.
    widths : float64 array, shape (K,)
        How uncertain they are, in the policy's own measure; 0 where it has none, infinite for arms without
        outcome where the policy says so.
    kind : PropensityKind
    """

    probabilities: Float64s
    means: Float64s
    widths: Float64s
    kind: PropensityKind = PropensityKind.EXACT


class PolicyState(Protocol):
    """What a policy has learnt: never changed, replaced by `Policy.fold`."""

    @property
    def events(self) -> int:
        """Outcomes held now: folded less retracted."""
        ...

    def summaries(self) -> Mapping[str, ArmSummary]:
        """Return what was seen of every arm, by arm."""
        ...

    def to_bytes(self) -> bytes:
        """Return the state in a canonical form: equal states, equal bytes."""
        ...


class Policy(Protocol[State]):
    """Chooses among variants, and learns from outcomes.

    A policy is a frozen dataclass: its fields are hyper-parameters (declare them with
    `kshot.selectors.base.parameter`), it holds no state, draws no random number, and one instance may serve
    any number of threads. Callers may rely on this:

    - ``choose`` returns the exact distribution to draw from: a floor, a hold-out and the draw itself are the
      caller's (`kshot.selectors.bandits.propensity`), alike for every policy;
    - any set of arms is valid at every call; an arm without outcomes has its prior; arms outside
      ``situation.arms`` change nothing, unless the class says that arms share what they learn;
    - ``fold`` and ``merge`` return new states and leave the old as they were; the same addends in any order
      and in batches of any size give the same bytes, and addends with their negation those of before. Where a
      policy forgets, other orders agree within 1e-9 and only the same order gives the same bytes;
    - schedules count outcomes held, not decisions made;
    - ties go to the arm that sorts first, unless the class says otherwise.
    """

    @property
    def contextual(self) -> bool:
        """Whether ``context`` matters; if not, contexts of any length are taken and ignored.

        A class constant for most policies; a field where it is a hyper-parameter. Ask the instance.
        """
        ...

    def init(self, dimension: int) -> State:
        """Return the state before any outcome, for contexts of ``dimension`` features, intercept included."""
        ...

    def fold(self, state: State, addends: Addends) -> State:
        """Return the state after some outcomes."""
        ...

    def merge(self, state: State, other: State) -> State:
        """Return the state that has seen the outcomes of both, which have none in common.

        Raises
        ------
        InvalidInput
            The two belong to other features, seeds or hyper-parameters.
        """
        ...

    def choose(self, state: State, situation: Situation) -> Choice:
        """Return the probability of every arm."""
        ...

    def restore(self, blob: bytes) -> State:
        """Return the state that ``to_bytes`` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of another policy.
        """
        ...
