"""What arms cost, beside what they earn: a price per request, and a budget over many.

Costs are kept apart from rewards. What a unit of cost is worth is told with every decision, so that another
price changes no statistic and asks for no relearning: `cost_penalties` gives what
`kshot.selectors.bandits.base.Situation` calls penalties.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, as_float64
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes
from kshot.selectors.bandits.views import Memo

COST_BITS = 30
"""Costs are multiples of 2**-30 of their unit, so that their sums are exact in any order."""
COST_LIMIT = 1e9
_KIND = "costs"
_LAYOUT = 1
_HALF = 62
_MASK = (1 << _HALF) - 1


def length_bucket(n_tokens: int) -> int:
    """Return the bucket of a query's length: 0 for 0 tokens, then one more for every doubling.

    Raises
    ------
    InvalidParameter
        The length is below 0.
    """
    if n_tokens < 0:
        raise InvalidParameter(f"n_tokens is {n_tokens}, allowed >= 0")
    return n_tokens.bit_length()


@dataclass(frozen=True, slots=True)
class CostBook:
    """Mean costs by arm and length of the query; immutable.

    Attributes
    ----------
    entries : mapping of (str, int) to (int, int)
        By arm and `length_bucket`: how many costs are known, and their sum in units of 2**-30.
    memo : Memo
        What was derived from the entries.
    """

    entries: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    memo: Memo = field(default_factory=Memo, repr=False, compare=False)

    def with_cost(self, arm: str, bucket: int, cost: float, *, count: int = 1) -> "CostBook":
        """Return the book with a cost more, or with ``count`` -1 with one that is taken back.

        Raises
        ------
        InvalidParameter
            The cost is not within 0 and 1e9, or ``count`` neither 1 nor -1.
        """
        if not 0.0 <= cost <= COST_LIMIT:
            raise InvalidParameter(f"cost is {cost:g}, allowed 0 to {COST_LIMIT:g}")
        if count not in (1, -1):
            raise InvalidParameter(f"count is {count}, allowed 1 and -1")
        whole = round(math.ldexp(cost, COST_BITS))
        return self.merge(CostBook({(arm, bucket): (count, count * whole)}))

    def merge(self, other: "CostBook") -> "CostBook":
        """Return the book with the costs of both, which have none in common."""
        entries = dict(self.entries)
        for key, (n, total) in other.entries.items():
            held_n, held = entries.get(key, (0, 0))
            entries[key] = (held_n + n, held + total)
            if entries[key] == (0, 0):
                del entries[key]
        return CostBook(MappingProxyType(entries))

    def expected(self, arms: Sequence[str], bucket: int) -> Float64s:
        """Return the mean cost of each arm for queries of some length, shape (K,).

        Where none is known of that length: the arm's mean over all lengths. Of a new arm: the mean of all
        costs, so that it is tried neither for its price nor in spite of it. 0 if none is known at all.
        """
        by_arm, overall = self.memo.get("means", self._means)
        found = np.empty(len(arms))
        for place, arm in enumerate(arms):
            entry = self.entries.get((arm, bucket))
            mean = None if entry is None else _mean([entry])
            found[place] = by_arm.get(arm, overall) if mean is None else mean
        return found

    def _means(self) -> tuple[dict[str, float], float]:
        """Return the mean cost of every arm of which one is known, and of all of them."""
        own: dict[str, list[tuple[int, int]]] = {}
        for (arm, _), entry in self.entries.items():
            own.setdefault(arm, []).append(entry)
        means = {arm: _mean(entries) for arm, entries in own.items()}
        overall = _mean(self.entries.values())
        return {arm: mean for arm, mean in means.items() if mean is not None}, overall or 0.0

    @property
    def reference(self) -> float:
        """The mean of all costs, 1 if none is known: what prices refer to unless told otherwise."""
        return _mean(self.entries.values()) or 1.0

    def to_bytes(self) -> bytes:
        """Return the book in a canonical form: equal books, equal bytes."""
        items = sorted(self.entries.items())
        names = [[arm, bucket] for (arm, bucket), _ in items]
        numbers = [[n, total >> _HALF, total & _MASK] for _, (n, total) in items]
        array = np.array(numbers, np.int64).reshape(-1, 3)
        return to_bytes(Snapshot(_KIND, _LAYOUT, {"entries": names}, [array]))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "CostBook":
        """Return the book that `to_bytes` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of something else.
        """
        snapshot = from_bytes(blob, _KIND, (_LAYOUT,))
        (numbers,) = snapshot.arrays
        rows = zip(snapshot.header["entries"], numbers.tolist(), strict=True)
        entries = {(arm, bucket): (n, (high << _HALF) + low) for (arm, bucket), (n, high, low) in rows}
        return cls(MappingProxyType(entries))


def cost_penalties(costs: ArrayLike, price: float, reference: float) -> Float64s:
    """Return what costs take away from expected rewards: ``price * cost / reference``, shape (K,).

    Parameters
    ----------
    costs : array, shape (K,)
        Expected, in any unit, at least 0.
    price : float
        What ``reference`` of cost is worth in reward, at least 0; 0 looks at quality alone.
    reference : float
        In the costs' unit, above 0.

    Raises
    ------
    InvalidParameter
        A number is outside its range.
    InvalidShape
        A cost is not finite.

    Examples
    --------
    >>> cost_penalties([10.0, 1.0], price=0.05, reference=5.0).round(6).tolist()
    [0.1, 0.01]
    """
    amounts = _costs(costs)
    if not 0.0 <= price < math.inf:
        raise InvalidParameter(f"price is {price:g}, allowed finite and >= 0")
    if not 0.0 < reference < math.inf:
        raise InvalidParameter(f"reference is {reference:g}, allowed finite and > 0")
    return price * amounts / reference


def budget_threshold(spent: float, low: float, high: float) -> float:
    """Return the least reward per cost that is worth paying for once a share of a budget is spent [1]_.

    ``(high e / low)^spent * low / e``: it rises from ``low / e`` to ``high``.

    Parameters
    ----------
    spent : float
        Share of the budget, at least 0. Beyond 1 nothing is worth it: infinity.
    low, high : float
        Between which the arms' rewards per cost lie, ``0 < low <= high``.

    Raises
    ------
    InvalidParameter
        A number is outside its range.

    References
    ----------
    .. [1] Zhou, Chakrabarty, Lukose (2008), "Budget constrained bidding in keyword auctions and online
       knapsack problems", WINE.

    Examples
    --------
    >>> [round(budget_threshold(spent, 0.1, 1.0), 4) for spent in (0, 0.25, 0.5, 0.75, 1)]
    [0.0368, 0.084, 0.1918, 0.438, 1.0]
    """
    if not 0.0 <= spent < math.inf:
        raise InvalidParameter(f"spent is {spent:g}, allowed finite and >= 0")
    if not 0.0 < low <= high < math.inf:
        raise InvalidParameter(f"low is {low:g} and high {high:g}, allowed 0 < low <= high")
    if spent > 1.0:
        return math.inf
    # In logarithms: the same formula, at its ends exact to the last bit but one.
    return math.exp(spent * (math.log(high / low) + 1.0) + math.log(low) - 1.0)


def affordable(rewards: ArrayLike, costs: ArrayLike, threshold: float) -> Bools:
    """Return which arms are worth their cost, shape (K,); the cheapest always is, so that one is left.

    Parameters
    ----------
    rewards, costs : arrays, shape (K,)
        Expected. What costs nothing is worth it.
    threshold : float
        As `budget_threshold` gives it.

    Raises
    ------
    InvalidParameter
        A cost is below 0.
    InvalidShape
        The shapes differ, or a number is not finite.

    Notes
    -----
    Of equally cheap arms the one of the larger reward is kept, then the first.
    """
    amounts = _costs(costs)
    earned = as_float64("rewards", rewards, amounts.shape)
    kept: Bools = amounts == 0.0
    paid = ~kept
    kept[paid] = earned[paid] / amounts[paid] >= threshold
    if len(amounts):
        kept[np.lexsort((-earned, amounts))[0]] = True
    return kept


def _costs(costs: ArrayLike) -> Float64s:
    amounts = as_float64("costs", costs, (None,))
    if (amounts < 0).any():
        raise InvalidParameter(f"cost is {amounts.min():g}, allowed >= 0")
    return amounts


def _mean(entries: Iterable[tuple[int, int]]) -> float | None:
    """Return the mean cost of entries, rounded once; None where none is known."""
    pairs = list(entries)
    n = sum(pair[0] for pair in pairs)
    return sum(pair[1] for pair in pairs) / (n << COST_BITS) if n > 0 else None
