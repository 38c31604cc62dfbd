"""The state that most policies share: exact sums per arm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from kshot.arrays import Int64s, require_shape
from kshot.errors import InvalidInput
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.base import ArmSummary
from kshot.selectors.bandits.grid import REWARD_BITS, REWARD_SUM_BITS, SQUARE_SUM_BITS, WEIGHT_BITS
from kshot.selectors.bandits.products import (
    Limbs,
    added,
    as_floats,
    exact_products,
    exact_sum,
    packed_length,
    unpacked,
)
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes
from kshot.selectors.bandits.views import ArmView, Memo

_KIND = "sums"
_LAYOUT = 1


@dataclass(frozen=True, slots=True, eq=False)
class ArmSums:
    """Sums over the outcomes of one arm, exact, in the units of `kshot.selectors.bandits.grid`.

    Attributes
    ----------
    n : int
        Outcomes held.
    weight, reward, square : int
        Sums of weight, weight times reward, weight times squared reward.
    products : pair of int64 arrays
        Gram matrix and moment as `kshot.selectors.bandits.products` packs them.
    memo : Memo
        What readers derived from these sums.
    """

    n: int
    weight: int
    reward: int
    square: int
    products: Limbs
    memo: Memo = field(default_factory=Memo, repr=False)

    def __add__(self, other: "ArmSums") -> "ArmSums":
        return ArmSums(
            self.n + other.n,
            self.weight + other.weight,
            self.reward + other.reward,
            self.square + other.square,
            added(self.products, other.products),
        )

    def summary(self) -> ArmSummary:
        """Return what was seen of the arm."""
        return summary_of(self.n, self.weight, self.reward, self.square)

    def is_empty(self) -> bool:
        """Tell whether nothing is left of the arm's outcomes."""
        scalars = self.n or self.weight or self.reward or self.square
        return not (scalars or self.products[0].any() or self.products[1].any())


@dataclass(frozen=True, slots=True, eq=False)
class SumsState:
    """Exact sums per arm; never changed: old and new share the arms that outcomes do not concern.

    Whatever the order and the batches in which outcomes come, and whether they are added up here or merged
    from parts, the bits are the same; outcomes that are taken back leave nothing behind.

    Attributes
    ----------
    dimension : int
        Features of a context, intercept included; 0 if contexts are not kept.
    features : str
        Which features they are; states of other features do not mix.
    arms : mapping of str to ArmSums
        Those with outcomes.
    """

    dimension: int = 0
    features: str = "context"
    arms: Mapping[str, ArmSums] = field(default_factory=lambda: MappingProxyType({}))
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def events(self) -> int:
        """Outcomes held now."""
        return sum(sums.n for sums in self.arms.values())

    def clock(self, now: float) -> float:
        """Return 0: nothing is forgotten, so that all moments are alike."""
        return 0.0

    def view(self, arm: str, clock: float = 0.0) -> ArmView | None:
        """Return an arm's sums as floats, each rounded once; None if nothing is known of it."""
        sums = self.arms.get(arm)
        if sums is None:
            return None
        gram, moment = unpacked(as_floats(sums.products), self.dimension)
        return ArmView(
            n=sums.n,
            weight=sums.weight / (1 << WEIGHT_BITS),
            reward=sums.reward / (1 << REWARD_SUM_BITS),
            square=sums.square / (1 << SQUARE_SUM_BITS),
            gram=gram,
            moment=moment,
        )

    def summaries(self) -> Mapping[str, ArmSummary]:
        """Return what was seen of every arm, in the arms' order."""
        return {arm: self.arms[arm].summary() for arm in sorted(self.arms)}

    def fold(self, addends: Addends) -> "SumsState":
        """Return the state with some outcomes more.

        Raises
        ------
        InvalidShape
            The contexts have another number of features than the state.
        """
        if self.dimension:
            require_shape("contexts", addends.contexts, (len(addends), self.dimension))
        return self._with((arm, _sums(addends, rows, self.dimension)) for arm, rows in rows_by_arm(addends))

    def merge(self, other: "SumsState") -> "SumsState":
        """Return the state that has the outcomes of both.

        Raises
        ------
        InvalidInput
            The other has other features.
        """
        require_alike(f"{self.dimension} of {self.features}", f"{other.dimension} of {other.features}")
        return self._with(other.arms.items())

    def to_bytes(self) -> bytes:
        """Return the state in a canonical form."""
        arms = sorted(self.arms.items())
        size = packed_length(self.dimension)
        scalars = [[arm, sums.n, sums.weight, sums.reward, sums.square] for arm, sums in arms]
        products = np.empty((len(arms), 2, size), np.int64)
        for row, (_, sums) in enumerate(arms):
            products[row] = sums.products
        header = {"dimension": self.dimension, "features": self.features, "arms": scalars}
        return to_bytes(Snapshot(_KIND, _LAYOUT, header, [products]))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "SumsState":
        """Return the state that `to_bytes` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of a state of another kind.
        """
        snapshot = from_bytes(blob, _KIND, (_LAYOUT,))
        (products,) = snapshot.arrays
        products.setflags(write=False)
        arms = {
            arm: ArmSums(n, weight, reward, square, (low, high))
            for (arm, n, weight, reward, square), (low, high) in zip(
                snapshot.header["arms"], products, strict=True
            )
        }
        header = snapshot.header
        return cls(header["dimension"], header["features"], MappingProxyType(arms))

    def _with(self, parts: Iterable[tuple[str, ArmSums]]) -> "SumsState":
        arms = dict(self.arms)
        for arm, part in parts:
            present = arms.get(arm)
            total = part if present is None else present + part
            if total.is_empty():
                arms.pop(arm, None)
            else:
                arms[arm] = total
        return SumsState(self.dimension, self.features, MappingProxyType(arms))


def rows_by_arm(addends: Addends) -> Iterable[tuple[str, Int64s]]:
    """Return every arm that addends concern, and which of them, in their order."""
    arm_to_rows: dict[str, list[int]] = {}
    for row, arm in enumerate(addends.arms):
        arm_to_rows.setdefault(arm, []).append(row)
    return [(arm, np.array(rows, np.int64)) for arm, rows in arm_to_rows.items()]


def require_alike(own: str, other: str) -> None:
    """Refuse to merge states that were learnt from different things.

    Raises
    ------
    InvalidInput
        Names both.
    """
    if own != other:
        raise InvalidInput(f"states of different features cannot be merged: {own}, and {other}")


def _sums(addends: Addends, rows: Int64s, dimension: int) -> ArmSums:
    weights, rewards = addends.weights[rows], addends.rewards[rows]
    contexts = addends.contexts[rows][:, :dimension]
    return ArmSums(
        n=exact_sum(addends.counts[rows]),
        weight=exact_sum(weights),
        reward=exact_sum(rewards),
        square=exact_sum(addends.squares[rows]),
        products=exact_products(contexts, weights, rewards),
    )


def summary_of(n: int, weight: int, reward: int, square: int) -> ArmSummary:
    """Return what sums over an arm's outcomes say, in whole numbers as `ArmSums` has them."""
    if weight <= 0:
        return ArmSummary(n, weight / (1 << WEIGHT_BITS), None, None)
    # In whole numbers, so that a variance is never below 0 and 0 only if all rewards are equal.
    spread = square * weight - reward * reward
    return ArmSummary(
        n=n,
        weight=weight / (1 << WEIGHT_BITS),
        mean=reward / (weight << REWARD_BITS),
        variance=spread / ((weight * weight) << (2 * REWARD_BITS)),
    )
