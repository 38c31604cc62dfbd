"""Sums per arm that forget: an outcome counts half as much after every half-life."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from kshot.arrays import Float64s, require_shape
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.base import ArmSummary
from kshot.selectors.bandits.grid import REWARD_SUM_BITS, SQUARE_SUM_BITS, WEIGHT_BITS, natural
from kshot.selectors.bandits.products import packed_length, packed_places, unpacked
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes
from kshot.selectors.bandits.sums import require_alike, rows_by_arm
from kshot.selectors.bandits.views import ArmView, Memo

STEPS = 64
"""Moments per half-life at which discounts are looked at: between two of them, at most 1.1 % is missed."""
_KIND = "decaying"
_LAYOUT = 1


@dataclass(frozen=True, slots=True, eq=False)
class DecayedSums:
    """Discounted sums over the outcomes of one arm, in natural units, as of a moment.

    Attributes
    ----------
    n : int
        Outcomes held, not discounted.
    t_ref : float
        The moment, in seconds: that of the arm's latest decision with an outcome.
    scalars : float64 array, shape (3,)
        Sums of weight, weight times reward, weight times squared reward.
    products : float64 array, shape (d (d + 1) / 2 + d,)
        Gram matrix and moment as `kshot.selectors.bandits.products` packs them.
    squared : float64 array, like ``products``
        The same with every discount squared.
    memo : Memo
        What readers derived from these sums.
    """

    n: int
    t_ref: float
    scalars: Float64s
    products: Float64s
    squared: Float64s
    memo: Memo = field(default_factory=Memo, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class DecayingState:
    """Discounted sums per arm; never changed: old and new share the arms that outcomes do not concern.

    An outcome counts ``2 ** -(age / half_life_s)``, its age being that of its decision. Sums are brought
    forward when a later decision's outcome comes; an outcome that is late is discounted itself. Outcomes are
    folded one after another, entry by entry, so that batches of any size give the same bits; other orders
    agree up to rounding.

    Attributes
    ----------
    half_life_s : float
        In seconds, above 0.
    dimension : int
        Features of a context, intercept included; 0 if contexts are not kept.
    features : str
        Which features they are; states of other features do not mix.
    arms : mapping of str to DecayedSums
        Those with outcomes.
    """

    half_life_s: float
    dimension: int = 0
    features: str = "context"
    arms: Mapping[str, DecayedSums] = field(default_factory=lambda: MappingProxyType({}))
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def events(self) -> int:
        """Outcomes held now, old ones as well."""
        return sum(sums.n for sums in self.arms.values())

    def clock(self, now: float) -> float:
        """Return the moment to look from: ``now`` or the latest outcome, whichever is later, rounded down.

        To a 64th of the half-life, so that what follows from the sums is found once and not at every call.
        """
        latest = max((sums.t_ref for sums in self.arms.values()), default=now)
        step = self.half_life_s / STEPS
        return math.floor(max(now, latest) / step) * step

    def view(self, arm: str, clock: float) -> ArmView | None:
        """Return an arm's sums as of a moment; None if nothing is known of it."""
        sums = self.arms.get(arm)
        if sums is None:
            return None
        discount = self._discount(clock - sums.t_ref)
        gram, moment = unpacked(sums.products, self.dimension)
        squared, _ = unpacked(sums.squared, self.dimension)
        weight, reward, square = (float(value) for value in sums.scalars * discount)
        return ArmView(
            sums.n,
            weight,
            reward,
            square,
            gram * discount,
            moment * discount,
            squared * (discount * discount),
        )

    def summaries(self) -> Mapping[str, ArmSummary]:
        """Return what was seen of every arm, in the arms' order; means and variances are discounted."""
        return {arm: _summary(self.arms[arm]) for arm in sorted(self.arms)}

    def fold(self, addends: Addends) -> "DecayingState":
        """Return the state with some outcomes more.

        Raises
        ------
        InvalidShape
            The contexts have another number of features than the state.
        """
        if self.dimension:
            require_shape("contexts", addends.contexts, (len(addends), self.dimension))
        parts = (
            (arm, self._folded(self.arms.get(arm), addends.take(rows))) for arm, rows in rows_by_arm(addends)
        )
        return self._with(parts)

    def merge(self, other: "DecayingState") -> "DecayingState":
        """Return the state that has the outcomes of both.

        Raises
        ------
        InvalidInput
            The other has other features or another half-life.
        """
        require_alike(self.name, other.name)
        return self._with((arm, self._sum(self.arms.get(arm), sums)) for arm, sums in other.arms.items())

    def to_bytes(self) -> bytes:
        """Return the state in a canonical form."""
        arms = sorted(self.arms.items())
        size = packed_length(self.dimension)
        rows = np.empty((len(arms), 4 + 2 * size))
        for row, (_, sums) in zip(rows, arms, strict=True):
            row[:] = np.concatenate([[sums.t_ref], sums.scalars, sums.products, sums.squared])
        header = {
            "dimension": self.dimension,
            "features": self.features,
            "half_life_s": self.half_life_s,
            "arms": [[arm, sums.n] for arm, sums in arms],
        }
        return to_bytes(Snapshot(_KIND, _LAYOUT, header, [rows]))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "DecayingState":
        """Return the state that `to_bytes` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of a state of another kind.
        """
        snapshot = from_bytes(blob, _KIND, (_LAYOUT,))
        (rows,) = snapshot.arrays
        header = snapshot.header
        size = packed_length(header["dimension"])
        arms = {
            arm: DecayedSums(n, float(row[0]), row[1:4], row[4 : 4 + size], row[4 + size :])
            for (arm, n), row in zip(header["arms"], rows, strict=True)
        }
        return cls(header["half_life_s"], header["dimension"], header["features"], MappingProxyType(arms))

    @property
    def name(self) -> str:
        """What the sums are over, and how they fade; states of the same name merge."""
        return f"{self.dimension} of {self.features}, half-life {self.half_life_s:g} s"

    def _discount(self, age: float) -> float:
        # A moment before the arm's latest outcome gives more than 1: by the rounding of the clock, 1.1 %.
        return float(2.0 ** max(-age / self.half_life_s, -1000.0))

    def _folded(self, sums: DecayedSums | None, addends: Addends) -> DecayedSums:
        size = packed_length(self.dimension)
        t_ref = float(addends.times[0]) if sums is None else sums.t_ref
        n = 0 if sums is None else sums.n
        scalars = np.zeros(3) if sums is None else sums.scalars.copy()
        products = np.zeros(size) if sums is None else sums.products.copy()
        squared = np.zeros(size) if sums is None else sums.squared.copy()
        rows, columns = packed_places(self.dimension)
        contexts = natural(addends.contexts[:, : self.dimension])
        weights = np.ldexp(addends.weights.astype(np.float64), -WEIGHT_BITS)
        rewards = np.ldexp(addends.rewards.astype(np.float64), -REWARD_SUM_BITS)
        squares = np.ldexp(addends.squares.astype(np.float64), -SQUARE_SUM_BITS)
        for event in range(len(addends)):
            age = float(addends.times[event]) - t_ref
            if age > 0:
                discount = self._discount(age)
                scalars *= discount
                products *= discount
                squared *= discount * discount
                t_ref = float(addends.times[event])
            own = 1.0 if age >= 0 else self._discount(-age)
            n += int(addends.counts[event])
            scalars += np.array([weights[event], rewards[event], squares[event]]) * own
            right = np.append(contexts[event] * weights[event], rewards[event])
            terms = contexts[event][rows] * right[columns] * own
            products += terms
            squared += terms * own
        return DecayedSums(n, t_ref, scalars, products, squared)

    def _sum(self, a: DecayedSums | None, b: DecayedSums) -> DecayedSums:
        if a is None:
            return b
        t_ref = max(a.t_ref, b.t_ref)
        mine, yours = self._discount(t_ref - a.t_ref), self._discount(t_ref - b.t_ref)
        return DecayedSums(
            a.n + b.n,
            t_ref,
            a.scalars * mine + b.scalars * yours,
            a.products * mine + b.products * yours,
            a.squared * (mine * mine) + b.squared * (yours * yours),
        )

    def _with(self, parts: Iterable[tuple[str, DecayedSums]]) -> "DecayingState":
        arms = MappingProxyType({**self.arms, **dict(parts)})
        return DecayingState(self.half_life_s, self.dimension, self.features, arms)


def _summary(sums: DecayedSums) -> ArmSummary:
    weight, reward, square = (float(value) for value in sums.scalars)
    if weight <= 0.0:
        return ArmSummary(sums.n, weight, None, None)
    # Rounding, most of all of what was taken back, must not leave where rewards can be.
    mean = min(max(reward / weight, 0.0), 1.0)
    return ArmSummary(sums.n, weight, mean, max(0.0, square / weight - mean * mean))
