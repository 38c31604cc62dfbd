"""From a policy's probabilities to the arm that is served, alike for every policy.

What is drawn from is mixed in this order, and the result is the propensity that is logged:

1. what the policy chose, p;
2. the nursery, a share s for K_new arms with few outcomes: ``p <- (1 - s) p + s / K_new`` for those,
   ``(1 - s) p`` for all others, with ``s = min(K_new / K, nursery_cap)``;
3. the floor e: ``p <- (1 - e) p + e / K``;
4. the hold-out h, decisions whose arm is uniform and which are marked: ``p <- (1 - h) p + h / K``.

A decision's propensity is that of step 4, whether it turned out to be one of the hold-out or not. Every draw
follows from a seed and nothing else, so that it can be repeated.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.base import Choice, PropensityKind

_MASK = (1 << 64) - 1
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Exploration:
    """How much is served at random, whatever the policy says.

    Attributes
    ----------
    floor : float
        Share of decisions spread evenly over all arms, in [0, 1]. Without any, what was logged cannot judge
        policies that serve other arms.
    holdout : float
        Share of decisions, in [0, 1], that are uniform and marked: an unbiased benchmark for ever.
    nursery_outcomes : int
        An arm with fewer outcomes is in the nursery; 0 for no nursery.
    nursery_cap : float
        What the nursery gets at most, in [0, 1].
    """

    floor: float = 0.02
    holdout: float = 0.02
    nursery_outcomes: int = 10
    nursery_cap: float = 0.2

    def __post_init__(self) -> None:
        for name in ("floor", "holdout", "nursery_cap"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise InvalidParameter(f"{name} is {share:g}, allowed 0 to 1")
        if self.nursery_outcomes < 0:
            raise InvalidParameter(f"nursery_outcomes is {self.nursery_outcomes}, allowed >= 0")


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a decision's arm is drawn from.

    Attributes
    ----------
    probabilities : float64 array, shape (K,)
        The propensities: of serving each arm, hold-out included.
    adaptive : float64 array, shape (K,)
        The same of decisions outside of the hold-out.
    holdout : float
        Share of decisions in the hold-out.
    nursery : bool array, shape (K,)
        Arms that get a nursery share.
    kind : PropensityKind
    """

    probabilities: Float64s
    adaptive: Float64s
    holdout: float
    nursery: Bools
    kind: PropensityKind


class Drawn(NamedTuple):
    """The arm that was drawn, by its place; whether for the hold-out; and its propensity."""

    place: int
    is_holdout: bool
    propensity: float


def mixed_uniformly(probabilities: Float64s, share: float) -> Float64s:
    """Return ``(1 - share) p + share / K``."""
    return (1.0 - share) * probabilities + share / len(probabilities)


def mixed_with_nursery(probabilities: Float64s, nursery: Bools, cap: float) -> Float64s:
    """Give arms of the nursery their share of all arms, at most ``cap`` in all, evenly and on top of p.

    Parameters
    ----------
    probabilities : float64 array, shape (K,)
    nursery : bool array, shape (K,)
        May hold none, or all.
    cap : float
        In [0, 1].
    """
    new = int(np.count_nonzero(nursery))
    if not new:
        return probabilities
    share = min(new / len(probabilities), cap)
    return (1.0 - share) * probabilities + (share / new) * nursery


def distribution(choice: Choice, outcomes: ArrayLike, exploration: Exploration) -> Distribution:
    """Return what to draw from: the policy's choice with nursery, floor and hold-out mixed in.

    Parameters
    ----------
    choice : Choice
        Of K arms.
    outcomes : int array, shape (K,)
        How many each arm has.
    exploration : Exploration

    Returns
    -------
    Distribution
        No probability is below ``floor / K``. A single arm is forced, whatever the choice was.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        The choice has a probability below 0, or they do not sum to 1 within 1e-6.

    Notes
    -----
    A policy's own exploration is inside ``choice``; the order of what comes on top is the module's.
    """
    given = as_float64("probabilities", choice.probabilities, (None,))
    K = len(given)
    counts = np.asarray(outcomes)
    require_shape("outcomes", counts, (K,))
    total = float(given.sum())
    if abs(total - 1.0) > _TOLERANCE or given.min() < 0.0:
        raise InvalidParameter(
            f"probabilities sum to {total:g}, the least is {given.min():g}; allowed 1 and 0"
        )
    nursery = counts < exploration.nursery_outcomes
    if K == 1:
        one = np.ones(1)
        return Distribution(one, one, exploration.holdout, nursery, PropensityKind.FORCED)
    nursed = mixed_with_nursery(given / total, nursery, exploration.nursery_cap)
    adaptive = mixed_uniformly(nursed, exploration.floor)
    served = mixed_uniformly(adaptive, exploration.holdout)
    return Distribution(served, adaptive, exploration.holdout, nursery, choice.kind)


def decision_seed(policy: str, version: int, decision: str, key: bytes = b"") -> int:
    """Return the seed of a decision: 64 bits, keyed BLAKE2b of whose and which decision it is.

    Parameters
    ----------
    policy : str
        The policy's id.
    version : int
        Its version.
    decision : str
        The decision's id.
    key : bytes
        At most 64. Whoever does not know it cannot choose decision ids that lead to an arm.

    Raises
    ------
    InvalidParameter
        The key is too long.
    """
    if len(key) > blake2b.MAX_KEY_SIZE:
        raise InvalidParameter(f"the key has {len(key)} bytes, allowed {blake2b.MAX_KEY_SIZE} at most")
    digest = blake2b(digest_size=8, key=key)
    for part in (policy, str(version), decision):
        data = part.encode()
        # Lengths first: no two triples are written alike.
        digest.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest(), "little")


def uniforms(seed: int, count: int) -> list[float]:
    """Return ``count`` numbers in [0, 1), multiples of 2**-53, that follow from a 64-bit seed alone.

    References
    ----------
    .. [1] Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA: SplitMix64.
    """
    numbers = []
    state = seed & _MASK
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        numbers.append(((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53)
    return numbers


def draw(given: Distribution, seed: int) -> Drawn:
    """Draw an arm; the same seed and distribution, the same arm.

    The first of two numbers tells whether the decision is one of the hold-out, the second which arm.
    """
    first, second = uniforms(seed, 2)
    is_holdout = first < given.holdout
    K = len(given.probabilities)
    # 1 - 2**-53 times 49 is 49 after rounding, hence the minimum.
    place = min(int(second * K), K - 1) if is_holdout else _place(given.adaptive, second)
    return Drawn(place, is_holdout, float(given.probabilities[place]))


def _place(probabilities: Float64s, uniform: float) -> int:
    """Return the arm in whose stretch of [0, 1) a number lies; never one of probability 0."""
    ends = np.cumsum(probabilities)
    place = int(np.searchsorted(ends, uniform * ends[-1], side="right"))
    return place if place < len(ends) else int(np.flatnonzero(probabilities)[-1])
