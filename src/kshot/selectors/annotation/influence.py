"""Influence maximisation: the rows from which influence reaches most others, and how sure that is."""

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from scipy.sparse import csr_array

from kshot.arrays import Bools, Int64s, Picks
from kshot.selectors.annotation.base import Report, planned, silent
from kshot.selectors.annotation.neighbour_graph import Int32s
from kshot.selectors.annotation.reachable_sets import ReachableSets, ReachableSetSampler, joined

SETS_PER_ROW = 20
LEAST_SETS = 4_096
"""Sets drawn at first: so many for each row, and at least so many in all."""
DOUBLINGS = 3
"""How often the number of sets is doubled where it tells too little."""
MOST_MEMBERS = 150_000_000
"""Members of the sets of a sample, 600 MB, above which no more are drawn."""
SLACK = 0.05
"""What the share of the best possible influence that is guaranteed may fall short of 1 - 1/e."""
FAILURE = 0.01
"""Probability with which the guarantee does not hold."""
_BATCH_SETS = 32_768
_CHECKED = (8, 16, 32, 64, 128, 256)
"""Numbers of picks for which the sample is judged, whatever the budget."""
_GREEDY = 1 - 1 / np.e


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
        estimated from a second sample that the picks do not depend on, so that it is not flattered by the
        choice; ``standard_error`` of that; ``sets`` in each sample; and ``guarantee``, the share of the best
        possible additional influence that the picks have at least, with probability 0.99.

    Notes
    -----
    Of 20 sets for each row at first, doubled up to three times until plans of 8, 16, ... 256 rows are
    guaranteed 1 - 1/e - 0.05; the budget is not among the conditions, so that larger plans go on where
    smaller ones end. The bounds are those of [2]_ with the upper bound on the optimum from what every row
    would still add. Gains are kept exact for all rows, by taking from each what a pick has covered: O(members
    of all sets) in total, and O(n) per pick. Ties go to the lowest index.

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
    choosing, judging = (rng.integers(0, 2**32, 4).tolist() for _ in range(2))
    checked = [size for size in _CHECKED if size <= free] or [free]
    batch = min(_BATCH_SETS, max(SETS_PER_ROW * n, LEAST_SETS))
    parts: list[ReachableSets] = []
    others: list[ReachableSets] = []
    for doubling in range(DOUBLINGS + 1):
        batches = ceil(max(SETS_PER_ROW * n, LEAST_SETS) * 2**doubling / batch)
        while len(parts) < batches and sum(len(part.members) for part in parts) <= MOST_MEMBERS:
            parts.append(_batch(sampler, batch, choosing, len(parts)))
            others.append(_batch(sampler, batch, judging, len(others)))
            report(len(parts) * batch, batches * batch)
        sample = joined(parts)
        cover = _greedy_cover(sample, labelled, max(wanted, checked[-1]), {*checked, wanted})
        seen = np.zeros(len(cover.order) + 1, np.int64)
        for part in others:
            seen += _covered_by_prefix(part, cover.order, labelled)
        guarantees = {size: _guarantee(seen[size] - seen[0], bound) for size, bound in cover.bound.items()}
        if len(parts) < batches or all(guarantees[size] >= _GREEDY - SLACK for size in checked):
            break
    share = float(seen[wanted]) / len(sample)
    return planned(
        cover.order[:wanted],
        cover.newly[:wanted] * (n / len(sample)),
        {
            "influence": n * share,
            "standard_error": n * sqrt(share * (1 - share) / len(sample)),
            "sets": len(sample),
            "guarantee": guarantees[wanted],
        },
    )


def _batch(sampler: ReachableSetSampler, sets: int, entropy: list[int], number: int) -> ReachableSets:
    """Draw a batch by its own generator, so that a longer sample begins with the shorter one."""
    return sampler.draw(sets, np.random.default_rng([*entropy, number]))


@dataclass(frozen=True, slots=True)
class _Cover:
    """Rows in the order in which they cover sets, how many each covers newly, and what none could exceed."""

    order: Int64s
    newly: Int64s
    bound: dict[int, float]


def _greedy_cover(sample: ReachableSets, labelled: Bools, wanted: int, sizes: set[int]) -> _Cover:
    """Cover as many sets as possible; ``bound[size]`` is at least what the best ``size`` rows could cover."""
    n = len(labelled)
    covered = sample.hit_by(labelled)
    left = np.repeat(~covered, np.diff(sample.offsets))
    uncovered = len(covered) - int(np.count_nonzero(covered))
    gain = np.bincount(sample.members[left], minlength=n)
    gain[labelled] = -1
    bound = dict.fromkeys(sizes, float(uncovered))
    _tighten(bound, 0, 0, gain)
    starts, sets = sample.by_member(n)
    order, newly = np.empty(wanted, np.int64), np.empty(wanted, np.int64)
    for place in range(wanted):
        row = int(np.argmax(gain))
        order[place], newly[place] = row, gain[row]
        own = sets[starts[row] : starts[row + 1]]
        fresh = own[~covered[own]]
        covered[fresh] = True
        np.subtract.at(gain, sample.members[_ranges(sample.offsets, fresh)], 1)
        gain[row] = -1
        if place + 1 in sizes:
            _tighten(bound, place + 1, int(newly[: place + 1].sum()), gain)
    return _Cover(order, newly, bound)


def _tighten(bound: dict[int, float], picks: int, reached: int, gain: Int64s) -> None:
    """Lower the bounds by what is known after some picks: no row will ever add more than it would now."""
    most = np.cumsum(np.maximum(np.sort(gain)[::-1], 0))
    if picks in bound:
        bound[picks] = min(bound[picks], reached / _GREEDY)
    for size, known in bound.items():
        if size >= picks:
            bound[size] = min(known, float(reached + most[size - 1]))


def _ranges(offsets: Int64s, sets: Int32s) -> Int64s:
    """Return the places of all members of some sets."""
    starts = offsets[sets]
    sizes = offsets[sets + 1] - starts
    ends = np.cumsum(sizes)
    places = np.repeat(starts - (ends - sizes), sizes)
    return places + np.arange(len(places))


def _covered_by_prefix(sets: ReachableSets, order: Int64s, labelled: Bools) -> Int64s:
    """Count the sets that labelled rows and the first 0, 1, 2, ... rows of ``order`` cover."""
    rank = np.full(len(labelled), len(order) + 1, np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    rank[labelled] = 0
    earliest = np.minimum.reduceat(rank[sets.members], sets.offsets[:-1])
    return np.cumsum(np.bincount(earliest, minlength=len(order) + 2))[:-1]


def _guarantee(covered: int, bound: float) -> float:
    """Return the share of the best possible coverage that is reached, at least, but for bad luck.

    Parameters
    ----------
    covered : int
        Sets of the second sample that the picks cover.
    bound : float
        Sets of the first sample that no rows of that number cover more of.
    """
    doubt = log(3 * (DOUBLINGS + 1) / FAILURE)
    least = (sqrt(covered + 2 * doubt / 9) - sqrt(doubt / 2)) ** 2 - doubt / 18
    most = (sqrt(bound + doubt / 2) + sqrt(doubt / 2)) ** 2
    return max(least, 0.0) / most
