"""Dividing a budget: among strata, and where rows cost differently much."""

import heapq
import math

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Int64s, as_float64
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import require_budget


def stratum_order(counts: ArrayLike, budget: int, shares: ArrayLike | None = None) -> Int64s:
    """Say from which stratum each further row is to be taken.

    Parameters
    ----------
    counts : int array, shape (s,)
        Rows that each stratum can give, at least 0.
    budget : int
        Rows wanted in all, at least 1.
    shares : float array, shape (s,), optional
        Wanted proportions, at least 0, in any unit. Default: ``counts``. A stratum of share 0 gives rows only
        when all others are used up.

    Returns
    -------
    int64 array, shape (min(budget, sum of counts),)
        Strata. The first M entries are the answer for a budget of M.

    Raises
    ------
    InvalidParameter
        ``budget`` below 1; a negative count or share.

    Notes
    -----
    Equal proportions (Huntington-Hill): every stratum with a share gives one row, the largest first, before
    any gives a second; then the next row comes from the stratum with the largest ``share / sqrt(q (q + 1))``
    of those that have given q. O(s + budget log s). Ties go to the lowest index.

    Examples
    --------
    >>> stratum_order([6, 3, 1], 5)
    array([0, 1, 2, 0, 0])
    """
    require_budget(budget)
    left = as_float64("counts", counts, (None,)).astype(np.int64)
    weights = left.astype(np.float64) if shares is None else as_float64("shares", shares, (len(left),))
    for name, values in (("counts", left), ("shares", weights)):
        if (values < 0).any():
            where = int(np.argmax(values < 0))
            raise InvalidParameter(f"{name}[{where}] is {values[where]:g}, allowed >= 0")
    heap = [(-_priority(weights[s], 0), -weights[s], s, 0) for s in range(len(left)) if left[s]]
    heapq.heapify(heap)
    order: list[int] = []
    while heap and len(order) < budget:
        _, _, s, given = heapq.heappop(heap)
        order.append(s)
        if given + 1 < left[s]:
            heapq.heappush(heap, (-_priority(weights[s], given + 1), -weights[s], s, given + 1))
    return np.array(order, np.int64)


def _priority(weight: float, given: int) -> float:
    if not weight:
        return -1.0 - given
    return math.inf if not given else float(weight) / math.sqrt(given * (given + 1))


def affordable(costs: ArrayLike, max_cost: float) -> Bools:
    """Say which rows of a plan can be paid for, taking them in order and passing over what is too dear.

    Parameters
    ----------
    costs : float array, shape (n,)
        Of the planned rows, in the order of the plan; at least 0.
    max_cost : float
        In the same unit.

    Returns
    -------
    bool array, shape (n,)
        The costs of the marked rows sum to at most ``max_cost``.

    Raises
    ------
    InvalidParameter
        A negative cost.

    Examples
    --------
    >>> affordable([2, 5, 1, 1], 4)
    array([ True, False,  True,  True])
    """
    values = as_float64("costs", costs, (None,))
    if (values < 0).any():
        where = int(np.argmax(values < 0))
        raise InvalidParameter(f"costs[{where}] is {values[where]:g}, allowed >= 0")
    taken = np.zeros(len(values), np.bool_)
    spent = 0.0
    for i, cost in enumerate(values.tolist()):
        if spent + cost <= max_cost:
            taken[i] = True
            spent += cost
    return taken
