"""The state of kernel policies: the outcomes themselves, up to a number of points per arm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kshot.arrays import Float64s, Int64s, require_shape
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.base import ArmSummary
from kshot.selectors.bandits.grid import REWARD_SUM_BITS, WEIGHT_BITS
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes
from kshot.selectors.bandits.sums import require_alike, rows_by_arm, summary_of
from kshot.selectors.bandits.views import Memo

_KIND = "kernel_points"
_LAYOUT = 1
_KEY = 16


class Point(NamedTuple):
    """Outcomes of one decision, or of several that were merged into it.

    Attributes
    ----------
    time : float
        When it was decided, in seconds.
    context : bytes
        Features in 2**-16, int64.
    n, weight, reward, square : int
        As of `kshot.selectors.bandits.sums.ArmSums`.
    """

    time: float
    context: bytes
    n: int
    weight: int
    reward: int
    square: int

    def plus(self, other: "Point") -> "Point":
        """Return the point with the outcomes of another added."""
        return self._replace(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            reward=self.reward + other.reward,
            square=self.square + other.square,
        )

    def is_empty(self) -> bool:
        """Tell whether all its outcomes were taken back."""
        return not (self.n or self.weight or self.reward or self.square)

    def key(self) -> bytes:
        """Return what names it: time and context, which a decision's corrections share."""
        return blake2b(np.float64(self.time).tobytes() + self.context, digest_size=_KEY).digest()


@dataclass(frozen=True, slots=True, eq=False)
class ArmPoints:
    """The points of one arm; immutable.

    Attributes
    ----------
    points : mapping of bytes to Point
        By their keys.
    absorbed : mapping of bytes to bytes
        Keys of points that were merged into others, so that they can still be corrected there.
    memo : Memo
        Models of these points.
    earlier : dict
        Models of fewer points, which they can be had from at less cost.
    """

    points: Mapping[bytes, Point]
    absorbed: Mapping[bytes, bytes]
    memo: Memo = field(default_factory=Memo, repr=False)
    earlier: dict[Any, Any] = field(default_factory=dict, repr=False)

    def with_points(self, more: Iterable[Point], capacity: int) -> "ArmPoints":
        """Return the arm with outcomes more, each added in turn, the oldest merged where there is no room."""
        points, absorbed = dict(self.points), dict(self.absorbed)
        for point in more:
            key = _holder(point.key(), points, absorbed)
            present = points.get(key)
            total = point if present is None else present.plus(point)
            if total.is_empty():
                points.pop(key, None)
                continue
            points[key] = total
            if len(points) > capacity:
                _absorb(points, absorbed)
        earlier = dict(self.memo.found) or self.earlier
        return ArmPoints(MappingProxyType(points), MappingProxyType(absorbed), earlier=earlier)

    def by_context(self) -> dict[bytes, tuple[float, float]]:
        """Return weight and weighted reward, in natural units, of every context with a weight above 0."""
        sums: dict[bytes, tuple[int, int]] = {}
        for point in self.points.values():
            weight, reward = sums.get(point.context, (0, 0))
            sums[point.context] = (weight + point.weight, reward + point.reward)
        return {
            context: (weight / (1 << WEIGHT_BITS), reward / (1 << REWARD_SUM_BITS))
            for context, (weight, reward) in sorted(sums.items())
            if weight > 0
        }

    def summary(self) -> ArmSummary:
        """Return what was seen of the arm."""
        points = self.points.values()
        return summary_of(
            sum(point.n for point in points),
            sum(point.weight for point in points),
            sum(point.reward for point in points),
            sum(point.square for point in points),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PointsState:
    """The points of every arm; never changed: old and new share arms that outcomes do not concern.

    While no arm has more decisions than points, the state does not depend on orders and batches, and what is
    taken back leaves nothing behind. Beyond that it depends on the order alone; sums over an arm stay exact.

    Attributes
    ----------
    dimension : int
        Features of a context.
    arms : mapping of str to ArmPoints
        Those with outcomes.
    """

    dimension: int
    arms: Mapping[str, ArmPoints] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def events(self) -> int:
        """Outcomes held now, merged ones as well."""
        return sum(point.n for arm in self.arms.values() for point in arm.points.values())

    def summaries(self) -> Mapping[str, ArmSummary]:
        """Return what was seen of every arm, in the arms' order."""
        return {arm: self.arms[arm].summary() for arm in sorted(self.arms)}

    def fold(self, addends: Addends, capacity: int) -> "PointsState":
        """Return the state with some outcomes more.

        Raises
        ------
        InvalidShape
            The contexts have another number of features than the state.
        """
        require_shape("contexts", addends.contexts, (len(addends), self.dimension))
        parts = ((arm, _points(addends, rows)) for arm, rows in rows_by_arm(addends))
        return self._with(parts, {}, capacity)

    def merge(self, other: "PointsState", capacity: int) -> "PointsState":
        """Return the state that has the outcomes of both, the other's added in the order of time.

        Raises
        ------
        InvalidInput
            The other's contexts have another number of features.
        """
        require_alike(f"{self.dimension} of context", f"{other.dimension} of context")
        parts = [(name, sorted(arm.points.values())) for name, arm in other.arms.items()]
        return self._with(parts, {name: arm.absorbed for name, arm in other.arms.items()}, capacity)

    def to_bytes(self) -> bytes:
        """Return the state in a canonical form."""
        header, arrays = [], []
        for name, arm in sorted(self.arms.items()):
            points = [arm.points[key] for key in sorted(arm.points)]
            merged = sorted(arm.absorbed.items())
            # Sums of many outcomes may need more than 64 bits.
            sums = [[point.n, point.weight, point.reward, point.square] for point in points]
            header.append([name, sums])
            keys = b"".join(old + new for old, new in merged)
            arrays += [
                np.array([point.time for point in points], np.float64),
                contexts_of([point.context for point in points], self.dimension),
                np.frombuffer(keys, "<i8").reshape(len(merged), -1 if merged else 2 * _KEY // 8),
            ]
        return to_bytes(Snapshot(_KIND, _LAYOUT, {"dimension": self.dimension, "arms": header}, arrays))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "PointsState":
        """Return the state that `to_bytes` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of a state of another kind.
        """
        snapshot = from_bytes(blob, _KIND, (_LAYOUT,))
        arms = {}
        for place, (name, sums) in enumerate(snapshot.header["arms"]):
            times, contexts, merged = snapshot.arrays[3 * place : 3 * place + 3]
            points = {}
            for time, context, (n, weight, reward, square) in zip(times, contexts, sums, strict=True):
                point = Point(float(time), packed(context), n, weight, reward, square)
                points[point.key()] = point
            pairs = (row.astype("<i8").tobytes() for row in merged)
            absorbed = {pair[:_KEY]: pair[_KEY:] for pair in pairs}
            arms[name] = ArmPoints(MappingProxyType(points), MappingProxyType(absorbed))
        return cls(snapshot.header["dimension"], MappingProxyType(arms))

    def _with(
        self,
        parts: Iterable[tuple[str, list[Point]]],
        absorbed: Mapping[str, Mapping[bytes, bytes]],
        capacity: int,
    ) -> "PointsState":
        arms = dict(self.arms)
        for name, points in parts:
            present = arms.get(name, ArmPoints({}, {}))
            # Both tell what went where; of what is here as a point, its own outcomes are apart.
            known = {old: new for old, new in absorbed.get(name, {}).items() if old not in present.points}
            both = ArmPoints(present.points, {**known, **present.absorbed}, present.memo, present.earlier)
            later = both.with_points(points, capacity)
            if later.points:
                arms[name] = later
            else:
                arms.pop(name, None)
        return PointsState(self.dimension, MappingProxyType(arms))


def contexts_of(contexts: Iterable[bytes], dimension: int) -> Int64s:
    """Return packed contexts as an array, shape (n, d), in units of 2**-16."""
    found: Int64s = np.frombuffer(b"".join(contexts), "<i8").astype(np.int64).reshape(-1, dimension)
    return found


def _points(addends: Addends, rows: Int64s) -> list[Point]:
    return [
        Point(
            # Not -0.0, which is the same moment under another key.
            float(addends.times[row]) + 0.0,
            packed(addends.contexts[row]),
            int(addends.counts[row]),
            int(addends.weights[row]),
            int(addends.rewards[row]),
            int(addends.squares[row]),
        )
        for row in rows
    ]


def packed(context: Int64s) -> bytes:
    """Return a context, in units of 2**-16, as bytes; `contexts_of` is the way back."""
    return np.ascontiguousarray(context, "<i8").tobytes()


def _holder(key: bytes, points: Mapping[bytes, Point], absorbed: Mapping[bytes, bytes]) -> bytes:
    """Return the key of the point that a key's outcomes belong to now.

    Points are merged into those that are later, so that this ends.
    """
    holder = key
    while holder not in points and holder in absorbed:
        holder = absorbed[holder]
    return holder if holder in points else key


def _absorb(points: dict[bytes, Point], absorbed: dict[bytes, bytes]) -> None:
    """Merge the oldest point into the one nearest to it, the first in time of several."""
    oldest = min(points, key=lambda key: points[key][:2])
    gone = points.pop(oldest)
    kept = sorted(points.items(), key=lambda item: item[1][:2])
    dimension = len(gone.context) // 8
    # Whole numbers: squares of differences on the grid are below 2**40, and so are exact in float64.
    others: Float64s = contexts_of((point.context for _, point in kept), dimension).astype(np.float64)
    own = contexts_of([gone.context], dimension)[0]
    nearest = int(np.square(others - own).sum(axis=1).argmin())
    key, holder = kept[nearest]
    total = holder.plus(gone)
    absorbed[oldest] = key
    if total.is_empty():
        del points[key]
    else:
        points[key] = total
