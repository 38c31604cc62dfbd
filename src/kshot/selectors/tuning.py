"""Choosing the weights of a fused relevance by neighbour agreement, on labelled rows and without any model.

A labelled row serves as a query; the weights are good if the rows that they bring nearest carry its label.
Which weights are best is chosen by cross-validation, and a change is worth proposing only where its gain is
beyond noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float32s, Float64s, Int64s, require_finite, require_shape
from kshot.errors import InvalidParameter

FOLDS = 5
RESAMPLES = 5_000
LEVEL = 0.95
"""Share of the resampled means between the bounds of an agreement's interval."""
GAIN_LEVEL = 0.99
"""The same of a gain: settings are chosen once and used for long, so a change by chance has to be rare."""
_STEPS = (0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries, and the bounds within which it would lie for other queries of the same kind."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` found.

    Attributes
    ----------
    best : int
        The candidate with the largest mean agreement; a tie goes to the lowest.
    held_out : float64 array, shape (q,)
        Agreement of each query under the candidate that the other folds chose.
    gain : Interval
        Mean of ``held_out`` less the reference's agreement, at `GAIN_LEVEL`.
    is_better : bool
        Whether the whole interval of the gain is above 0.
    """

    best: int
    held_out: Float64s
    gain: Interval
    is_better: bool


def weight_grid(n_signals: int) -> Float64s:
    """List the weightings to compare, the simplest first.

    A ranking does not change when all weights are multiplied by one number, so the largest weight is always
    1; the others are 0, 0.5 or 1.

    Returns
    -------
    float64 array, shape (3^s - 2^s, s)
        First those with the fewest signals; among equals, those with more weight on the first signals.

    Examples
    --------
    >>> weight_grid(2).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.5], [0.5, 1.0]]
    """
    found = [weights for weights in product(reversed(_STEPS), repeat=n_signals) if max(weights) == 1.0]
    return np.array(sorted(found, key=np.count_nonzero), dtype=np.float64).reshape(-1, n_signals)


def standardised_rows(values: ArrayLike, allowed: Bools) -> Float32s:
    """Express a signal in standard deviations from each query's mean over the rows that it may choose.

    Parameters
    ----------
    values : array, shape (q, n)
        One signal of n rows for each of q queries, finite.
    allowed : bool array, shape (q, n)
        False where a row must not be chosen for a query: the query itself, its duplicates.

    Returns
    -------
    float32 array, shape (q, n)
        Zeros for a query whose signal never varies. Moments are computed in float64.

    Raises
    ------
    InvalidShape
        The shapes differ, or a value is not finite.
    """
    signal = np.asarray(values, dtype=np.float64)
    require_shape("values", signal, allowed.shape)
    require_finite("values", signal)
    count = np.maximum(np.count_nonzero(allowed, axis=1), 1)
    mean = np.where(allowed, signal, 0.0).sum(axis=1) / count
    centred = signal - mean[:, None]
    std = np.sqrt((np.where(allowed, centred, 0.0) ** 2).sum(axis=1) / count)
    # What rounding leaves of a constant signal must not be blown up into a ranking.
    varies = std > 1e-7 * np.maximum(1.0, np.abs(mean))
    scaled: Float32s = (centred / np.where(varies, std, 1.0)[:, None]).astype(np.float32)
    scaled[~varies] = 0.0
    return scaled


def agreement(scores: ArrayLike, same_label: Bools, allowed: Bools, k: int) -> Float64s:
    """Return, for each query, the share of its k most relevant rows that carry its label.

    Parameters
    ----------
    scores : array, shape (q, n)
        Relevance of each row to each query; larger is better, finite.
    same_label, allowed : bool arrays, shape (q, n)
        Whether a row has the query's label, and whether it may be chosen for the query.
    k : int
        At least 1. A query with fewer allowed rows gets the share among those, and 0 without any.

    Returns
    -------
    float64 array, shape (q,)
        In [0, 1]. Ties go to the lowest row.

    Raises
    ------
    InvalidShape
        Shapes differ, or a score is not finite.
    InvalidParameter
        ``k`` is below 1.

    Examples
    --------
    The first row is the query itself; of the next two, one has its label.

    >>> allowed = np.array([[False, True, True, True]])
    >>> agreement([[9, 3, 2, 1]], np.array([[True, True, False, True]]), allowed, k=2)
    array([0.5])
    """
    relevance = np.asarray(scores)
    require_shape("scores", relevance, (None, None))
    require_finite("scores", relevance)
    for name, mask in (("same_label", same_label), ("allowed", allowed)):
        require_shape(name, mask, relevance.shape)
    if k < 1:
        raise InvalidParameter(f"k is {k}, allowed >= 1")
    q, n = relevance.shape
    if not n:
        return np.zeros(q)
    ranked = np.where(allowed, relevance, -np.inf)
    wanted = min(k, n)
    cut = np.partition(ranked, n - wanted, axis=1)[:, n - wanted, None]
    above = ranked > cut
    at_cut = ranked == cut
    room = wanted - np.count_nonzero(above, axis=1)[:, None]
    chosen = (above | (at_cut & (np.cumsum(at_cut, axis=1) <= room))) & allowed
    shown = np.count_nonzero(chosen, axis=1)
    shares: Float64s = np.count_nonzero(chosen & same_label, axis=1) / np.maximum(shown, 1)
    return shares


@dataclass(frozen=True, slots=True)
class Trial:
    """q labelled queries against n rows, dealt into folds.

    Attributes
    ----------
    same_label, allowed : bool arrays, shape (q, n)
        Whether a row has the query's label, and whether it may be chosen for the query: not the query itself,
        nor what equals it or belongs together with it.
    fold : int64 array, shape (q,)
        From `deal`.
    k : int
        Rows looked at per query, at least 1.
    """

    same_label: Bools
    allowed: Bools
    fold: Int64s
    k: int

    @property
    def overlap(self) -> float:
        """Share of the rows that are queries themselves, or belong together with one."""
        return float(np.mean(~self.allowed.all(axis=0)))

    def agreements(self, signals: Sequence[Float32s], weights: Float64s) -> "Agreements":
        """Measure the agreement of each query under each of m weightings of s signals.

        Parameters
        ----------
        signals : sequence of s arrays, shape (q, n)
            From `standardised_rows`.
        weights : float64 array, shape (m, s)

        Notes
        -----
        O(folds m q n) time where queries are rows as well, O(m q n) otherwise; O(q n) memory.
        """
        require_shape("weights", weights, (None, len(signals)))
        whole = np.empty((len(weights), len(self.fold)))
        apart = np.empty((FOLDS, *whole.shape))
        related = [~self.allowed[self.fold == number].all(axis=0) for number in range(FOLDS)]
        for c, weighting in enumerate(weights.tolist()):
            total = np.zeros(self.allowed.shape, dtype=np.float32)
            for weight, signal in zip(weighting, signals, strict=True):
                if weight:
                    total += np.float32(weight) * signal
            whole[c] = agreement(total, self.same_label, self.allowed, self.k)
            for number, rows in enumerate(related):
                apart[number, c] = whole[c]
                if rows.any():
                    rest = self.fold != number
                    allowed = self.allowed[rest] & ~rows
                    apart[number, c, rest] = agreement(total[rest], self.same_label[rest], allowed, self.k)
        return Agreements(whole, apart)


@dataclass(frozen=True, slots=True)
class Agreements:
    """Agreement of q queries under m candidates.

    Attributes
    ----------
    whole : float64 array, shape (m, q)
        With every allowed row to choose from.
    apart : float64 array, shape (folds, m, q)
        ``apart[f, :, i]``, for a query i outside fold f, with no row to choose from that belongs to a query
        of fold f. What is chosen by these numbers knows nothing of that fold's labels. Without this, two rows
        that are each other's neighbours would stand on both sides of the cross-validation.
    """

    whole: Float64s
    apart: Float64s

    def first(self, m: int) -> "Agreements":
        """Return the first m candidates."""
        return Agreements(self.whole[:m], self.apart[:, :m])

    @classmethod
    def joined(cls, parts: Sequence["Agreements"]) -> "Agreements":
        """Put candidates one after the other; all parts come from the same trial."""
        return cls(
            np.concatenate([part.whole for part in parts]),
            np.concatenate([part.apart for part in parts], axis=1),
        )


def deal(q: int, rng: np.random.Generator) -> Int64s:
    """Deal q queries into `FOLDS` folds of equal size, give or take one; int64 array, shape (q,).

    Raises
    ------
    InvalidParameter
        There are fewer queries than folds.
    """
    if q < FOLDS:
        raise InvalidParameter(f"{q} queries, allowed {FOLDS} or more")
    return rng.permutation(q) % FOLDS


def choose(agreed: Agreements, trial: Trial, reference: int, rng: np.random.Generator) -> Choice:
    """Choose the best of m candidates, and tell whether that is better than a reference beyond noise.

    For each fold the candidate with the largest mean over the other folds is chosen, and its agreement is
    read on the fold itself: what choosing gains on queries that had no say in the choice. `Choice.is_better`
    compares these agreements, query by query, with the reference's, by a bootstrap over queries.

    Parameters
    ----------
    agreed : Agreements
        Candidates in order of preference, since ties go to the lowest.
    trial : Trial
        Where the agreements come from.
    reference : int
        The candidate in use at present.
    rng : numpy.random.Generator
        Draws the resamples.

    Raises
    ------
    InvalidParameter
        ``reference`` is no candidate.

    Notes
    -----
    The bootstrap draws ``q / (1 + overlap)`` queries rather than q. Where queries are rows as well, a pair of
    neighbours counts from both sides, which at worst doubles the variance of a mean over queries.

    References
    ----------
    .. [1] Varma, Simon (2006), "Bias in error estimation when using cross-validation for model selection",
       BMC Bioinformatics 7: the choice is made anew within each fold.
    .. [2] Efron, Tibshirani (1993), "An introduction to the bootstrap", section 13.3: percentile intervals.
    """
    m, q = agreed.whole.shape
    if not 0 <= reference < m:
        raise InvalidParameter(f"reference is {reference}, allowed 0 to {m - 1}")
    held_out = np.empty(q)
    for number in range(FOLDS):
        is_out = trial.fold == number
        held_out[is_out] = agreed.whole[_best(agreed.apart[number][:, ~is_out]), is_out]
    difference = held_out - agreed.whole[reference]
    (gain,) = intervals(difference[None, :], rng, overlap=trial.overlap, level=GAIN_LEVEL)
    return Choice(_best(agreed.whole), held_out, gain, is_better=gain.low > 0)


def intervals(
    values: ArrayLike, rng: np.random.Generator, *, overlap: float = 0.0, level: float = LEVEL
) -> list[Interval]:
    """Bootstrap the mean of each of m rows over q queries.

    Every row is resampled with the same queries, so that intervals of candidates can be compared.

    Parameters
    ----------
    values : array, shape (m, q)
        q >= 1.
    rng : numpy.random.Generator
        Draws `RESAMPLES` samples of queries with replacement.
    overlap : float
        `Trial.overlap`; see `choose`.
    level : float
        In (0, 1): share of the resampled means between the bounds.
    """
    matrix = np.asarray(values, dtype=np.float64)
    require_shape("values", matrix, (None, None))
    q = matrix.shape[1]
    drawn = max(1, round(q / (1 + overlap)))
    counts: Int64s = rng.multinomial(drawn, np.full(q, 1.0 / q), size=RESAMPLES)
    means = matrix @ (counts.T / drawn)
    tail = (1 - level) / 2
    lows, highs = np.quantile(means, (tail, 1 - tail), axis=1)
    middles = matrix.mean(axis=1)
    return [
        Interval(mean, low, high)
        for mean, low, high in zip(middles.tolist(), lows.tolist(), highs.tolist(), strict=True)
    ]


def _best(shares: Float64s) -> int:
    """Return the candidate with the largest mean; means that differ by rounding only count as equal."""
    means = shares.mean(axis=1)
    return int(np.argmax(means >= means.max() - 1e-9))
