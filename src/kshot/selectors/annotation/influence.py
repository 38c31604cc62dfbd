"""Influence maximisation: the rows from which influence reaches most others, and how sure that is."""

from math import ceil, log, sqrt

import numpy as np
from scipy.sparse import csr_array

from kshot.arrays import Bools, Int64s, Picks
from kshot.selectors.annotation.base import Report, planned, silent
from kshot.selectors.annotation.reachable_sets import ReachableSets, ReachableSetSampler, joined

SETS_PER_ROW = 40
LEAST_SETS = 4_096
"""Sets drawn at first for each of two samples: so many for each row, and at least so many in all."""
DOUBLINGS = 3
"""How often the number of sets is doubled where it tells too little."""
MOST_MEMBERS = 150_000_000
"""Members of the sets of a sample, 600 MB, above which no more are drawn."""
SLACK = 0.05
"""What the share of the best possible influence that is guaranteed may fall short of 1 - 1/e."""
FAILURE = 0.01
"""Probability with which the guarantee does not hold."""
_BATCH_SETS = 32_768
_CHECKED = (8, 16, 32, 64)
"""Numbers of picks for which the samples are judged, whatever the budget; more picks cover more sets."""
_PICKS_PER_REPORT = 64
_GREEDY = 1 - 1 / np.e
_DOUBT = log(3 * (DOUBLINGS + 1) / FAILURE)
"""Each of three bounds may fail in each round; together they do with probability `FAILURE`."""


def maximise_influence(
    probabilities: "csr_array[np.float64]",
    budget: int,
    labelled: Bools,
    seed: int | np.random.Generator = 0,
    report: Report = silent,
) -> Picks:
    """Choose rows one by one so that together they activate as many rows as possible.

    An active row tries once to activate each of its successors (independent cascades). Who reaches a row
    drawn at random is sampled into sets; the row that is a member of most of the sets that no chosen row is
    in comes next.

    Parameters
    ----------
    probabilities : csr_array of float, shape (n, n)
        Entry (i, j): how likely i, once active, activates j; in [0, 1].
    budget : int
        At least 1; all unlabelled rows if there are fewer.
    labelled : bool array, shape (n,)
        Rows that are active from the start and never picked.
    seed : int or Generator
        For both samples.
    report : callable
        Told of sets drawn.

    Returns
    -------
    Picks
        ``gains``: rows that each pick activates in addition, estimated from the sample that it was chosen
        by. Diagnostics: ``influence``, rows activated by all picks and labelled rows, themselves included,
        estimated from a second sample that no pick was chosen by, so that it is not flattered by the choice;
        ``standard_error`` of that; ``sets`` in each sample; and ``guarantee``, the share of the best
        possible additional influence that the picks have at least, with probability 0.99.

    Notes
    -----
    Of 40 sets for each row at first, doubled up to three times until plans of 8, 16, 32 and 64 rows are
    guaranteed 1 - 1/e - 0.05; the budget is not among the conditions, so that larger plans go on where
    smaller ones end. The bounds are those of [2]_, but for the best possible influence, which is bounded by
    both samples together. Gains are kept exact for all rows, by taking from each what a pick has covered:
    O(members of all sets) in total, and O(n) per pick. Ties go to the lowest index.

    References
    ----------
    .. [1] Kempe, Kleinberg, Tardos (2003), "Maximizing the spread of influence through a social network",
       KDD.
    .. [2] Tang, Tang, Xiao, Yuan (2018), "Online processing algorithms for influence maximization", SIGMOD.
    """
    sampler = ReachableSetSampler(probabilities)
    n = sampler.n
    free = n - int(np.count_nonzero(labelled))
    wanted = min(budget, free)
    if not wanted:
        return planned([], [], {"influence": float(n), "standard_error": 0.0, "sets": 0, "guarantee": 1.0})
    rng = np.random.default_rng(seed)
    seeds = [rng.integers(0, 2**32, 4).tolist() for _ in range(2)]
    checked = [size for size in _CHECKED if size <= free] or [free]
    first = max(SETS_PER_ROW * n, LEAST_SETS)
    batch = ceil(first / ceil(first / _BATCH_SETS))
    parts: tuple[list[ReachableSets], list[ReachableSets]] = ([], [])
    for doubling in range(DOUBLINGS + 1):
        batches = ceil(first * 2**doubling / batch)
        while len(parts[0]) < batches and sum(len(part.members) for part in parts[0]) <= MOST_MEMBERS:
            for drawn, entropy in zip(parts, seeds, strict=True):
                # By a generator of its own, so that a longer sample begins with the shorter one.
                drawn.append(sampler.draw(batch, np.random.default_rng([*entropy, len(drawn)])))
            report(len(parts[0]) * batch, batches * batch)
        sets = len(parts[0]) * batch
        cover = _Cover(joined(parts[0]), joined(parts[1]), labelled)
        guarantees = {}
        for size in range(1, max(wanted, checked[-1]) + 1):
            cover.pick()
            if size in checked or size == wanted:
                guarantees[size] = cover.guarantee()
            if size % _PICKS_PER_REPORT == 0:
                report(sets, sets)
        if len(parts[0]) < batches or all(guarantees[size] >= _GREEDY - SLACK for size in checked):
            break
    share = cover.seen[wanted] / sets
    return planned(
        cover.order[:wanted],
        np.diff(cover.reached[: wanted + 1]) * (n / sets),
        {
            "influence": n * share,
            "standard_error": n * sqrt(share * (1 - share) / sets),
            "sets": sets,
            "guarantee": guarantees[wanted],
        },
    )


class _Cover:
    """Rows chosen so that they cover as many sets of a sample as possible, watched on another sample.

    Attributes
    ----------
    order : list of int
        The rows chosen.
    reached : list of int
        Sets of the first sample that the first 0, 1, 2, ... of them cover, labelled rows apart.
    seen : list of int
        Sets of the second sample that labelled rows and the first 0, 1, 2, ... of them cover.
    """

    def __init__(self, choosing: ReachableSets, watching: ReachableSets, labelled: Bools) -> None:
        self._choosing = _Uncovered(choosing, labelled)
        self._watching = _Uncovered(watching, labelled)
        self._choosing.gain[labelled] = -1
        self.order: list[int] = []
        self.reached = [0]
        self.seen = [len(watching) - self._watching.left]
        self._most = float(self._choosing.left + self._watching.left)
        self._later_gains = [self._best_gains()]

    def pick(self) -> None:
        """Choose the row that covers most sets of the first sample in addition."""
        row = int(np.argmax(self._choosing.gain))
        self.order.append(row)
        self.reached.append(self.reached[-1] + self._choosing.cover(row))
        self._choosing.gain[row] = -1
        self.seen.append(self.seen[-1] + self._watching.cover(row))

    def guarantee(self) -> float:
        """Return the share of the best possible coverage that the rows reach, at least, but for bad luck.

        In both samples together, the best rows cover no more than any other rows and, as many times, the
        most that a row would add to those. In the first, they cover no more than 1 / (1 - 1/e) times what the
        greedy choice covers.
        """
        size = len(self.order)
        self._later_gains.append(self._best_gains())
        together = min(self._most, *(float(gains[: size + 1].sum()) for gains in self._later_gains))
        most = min(_at_most(together) / 2, _at_most(self.reached[-1] / _GREEDY))
        return _at_least(self.seen[-1] - self.seen[0]) / most

    def _best_gains(self) -> Int64s:
        """Return what is covered so far, labelled rows apart, and what rows would add to that, falling."""
        covered = self.reached[-1] + self.seen[-1] - self.seen[0]
        gains = np.sort(np.maximum(self._choosing.gain, 0) + self._watching.gain)[::-1]
        return np.concatenate([[covered], gains])


class _Uncovered:
    """The sets of a sample that no chosen row is a member of, and how many of them each row would cover."""

    def __init__(self, sets: ReachableSets, labelled: Bools) -> None:
        self._sets = sets
        self._covered = sets.hit_by(labelled)
        self.left = len(sets) - int(np.count_nonzero(self._covered))
        open_members = sets.members[np.repeat(~self._covered, np.diff(sets.offsets))]
        self.gain: Int64s = np.bincount(open_members, minlength=len(labelled))
        self._starts, self._own = sets.by_member(len(labelled))

    def cover(self, row: int) -> int:
        """Take the sets that a row is a member of from the others' gains, and return how many those are."""
        own = self._own[self._starts[row] : self._starts[row + 1]]
        fresh = own[~self._covered[own]]
        self._covered[fresh] = True
        np.subtract.at(self.gain, self._sets.members_of(fresh), 1)
        return len(fresh)


def _at_most(covered: float) -> float:
    """Return what the expectation does not exceed where so many sets are covered, but for bad luck."""
    return (sqrt(covered + _DOUBT / 2) + sqrt(_DOUBT / 2)) ** 2


def _at_least(covered: float) -> float:
    """Return what the expectation does not fall below where so many sets are covered, but for bad luck."""
    return max((sqrt(covered + 2 * _DOUBT / 9) - sqrt(_DOUBT / 2)) ** 2 - _DOUBT / 18, 0.0)
