"""Among several organisations of demonstrations, the one that makes a model surest of its answer."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Float64s, Int64s, Picks, as_float64, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.base import check_parameters, parameter, require_count
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS

Objective: TypeAlias = Literal["mdl", "local_e"]


def organisations(n: int, k: int, count: int, rng: np.random.Generator) -> Int64s:
    """Draw ordered subsets of a ranking, the plain top-k first.

    Parameters
    ----------
    n : int
        Length of the ranking, >= 0.
    k : int
        Demonstrations of each, k >= 1.
    count : int
        Organisations wanted, >= 1.
    rng : numpy.random.Generator
        Draws all but the first.

    Returns
    -------
    int64 array, shape (w, min(k, n))
        Places in the ranking, 0 the best; 1 <= w <= count. No two rows are equal.

    Raises
    ------
    InvalidParameter
        A number is too small.

    Notes
    -----
    O(count n). The first is ``0 .. k - 1``; each other one is a uniform draw without replacement, kept in the
    order drawn. A draw that came before is dropped, so there are fewer where few exist.

    References
    ----------
    .. [1] Wu, Wang, Ye, Kong (2023), "Self-adaptive in-context learning: an information compression
       perspective for in-context example selection and ordering", ACL.

    Examples
    --------
    >>> organisations(30, 3, 1, np.random.default_rng(0))
    array([[0, 1, 2]])
    """
    require_count(k)
    if n < 0 or count < 1:
        raise InvalidParameter(f"n is {n}, count is {count}, allowed >= 0 and >= 1")
    size = min(k, n)
    first = tuple(range(size))
    drawn = {first: None}
    for _ in range(count - 1):
        drawn[tuple(rng.permutation(n)[:size].tolist())] = None
    return np.array(list(drawn), np.int64).reshape(len(drawn), size)


def label_entropy(nats: ArrayLike, baseline: ArrayLike | None = None) -> Float64s:
    """Measure how undecided a model is between labels.

    Parameters
    ----------
    nats : array, shape (w, c)
        For each of w organisations and c >= 1 labels, the mean log-probability of the label's tokens, in
        nats; ``-inf`` where the model rules a label out, NaN where it was not scored.
    baseline : array, shape (w, c), optional
        The same for a query without content: subtracted, so that what the model says anyway does not count.

    Returns
    -------
    float64 array, shape (w,)
        Entropy of ``softmax(nats - baseline)`` in nats, in [0, ln c]. NaN where a label was not scored, the
        baseline rules out a label that the query does not, or every label is ruled out.

    Raises
    ------
    InvalidShape
        Shapes disagree, there is no label, or a number is ``+inf``.

    Notes
    -----
    A label of probability 0 adds nothing. Terms are summed in the order of their size: labels may stand in
    any order, and the result is the same to the last bit.

    Examples
    --------
    >>> label_entropy([[-1.0, -1.0], [-1.0, -np.inf]]).round(6)
    array([0.693147, 0.      ])
    """
    logits = np.asarray(nats, dtype=np.float64)
    require_shape("nats", logits, (None, None))
    if not logits.shape[1]:
        raise InvalidShape("nats has no label, wanted at least one column")
    if np.isposinf(logits).any():
        raise InvalidShape("nats holds +inf; allowed are numbers, -inf and NaN")
    if baseline is not None:
        base = np.asarray(baseline, dtype=np.float64)
        require_shape("baseline", base, logits.shape)
        if np.isposinf(base).any():
            raise InvalidShape("baseline holds +inf; allowed are numbers, -inf and NaN")
        # What is ruled out with and without the query stays so; without it only, there is no finite shift.
        with np.errstate(invalid="ignore"):
            shifted = logits - base
        logits = np.where(np.isneginf(logits) & np.isneginf(base), -np.inf, shifted)
    known = ~np.isnan(logits).any(axis=1) & ~np.isposinf(logits).any(axis=1)
    known &= ~np.isneginf(logits).all(axis=1)
    entropies = np.full(len(logits), np.nan)
    ascending = np.sort(logits[known], axis=1)
    shift = ascending - ascending.max(axis=1, keepdims=True, initial=-np.inf)
    weights = np.exp(shift)
    total = weights.sum(axis=1)
    # H = ln Z - sum p ln w; a weight of 0 has a logarithm of -inf and adds nothing.
    terms = np.where(weights > 0, weights * np.where(weights > 0, shift, 0.0), 0.0)
    entropies[known] = np.maximum(np.log(total) - terms.sum(axis=1) / total, 0.0)
    return entropies


def best_organisation(entropies: ArrayLike, objective: Objective = "mdl") -> int | None:
    """Choose an organisation by its entropy.

    Parameters
    ----------
    entropies : array, shape (w,)
        As `label_entropy` gives them; NaN where unknown.
    objective : str
        ``mdl`` takes the least, ``local_e`` the largest.

    Returns
    -------
    int or None
        The first of equally good ones; None where none is known.

    Raises
    ------
    InvalidShape
        An entropy is infinite, or there are several dimensions.
    InvalidParameter
        The objective is unknown.

    Examples
    --------
    >>> best_organisation([0.4, 0.1, float("nan"), 0.1])
    1
    """
    values = np.asarray(entropies, dtype=np.float64)
    require_shape("entropies", values, (None,))
    known = ~np.isnan(values)
    as_float64("entropies", values[known], (None,))
    if objective not in {"mdl", "local_e"}:
        raise InvalidParameter(f"objective is {objective!r}, allowed mdl, local_e")
    if not known.any():
        return None
    cost = np.where(known, values if objective == "mdl" else -values, np.inf)
    return int(cost.argmin())


@SELECTORS.register("mdl")
@dataclass(frozen=True, slots=True)
class Mdl:
    """The organisation of near examples with which the model is surest of its label; needs a scorer.

    An organisation is a set of the nearest examples and their order in the prompt. The first is the plain
    top-k, the others are drawn; the scorer says for each how likely every label of the pool is as the answer
    to the query, and the least entropy of these wins. See `organisations`, `label_entropy` and
    `best_organisation` for the mathematics, and the source.

    By itself, without likelihoods, ``select`` gives the ranking that organisations are drawn from, and so the
    plain top-k: what is left where the scorer does not answer. Gains and scores are cosine similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset()
    pool_wide: ClassVar[bool] = False

    candidates: int = parameter(
        30,
        description="nearest examples that organisations are drawn from; never fewer than k.",
        ge=1,
        le=1000,
    )
    organisations: int = parameter(
        10, description="organisations compared, the plain top-k among them.", ge=1, le=1000
    )
    objective: Literal["mdl", "local_e"] = parameter(
        "mdl", description="`mdl`: the least entropy of the labels; `local_e`: the largest, the baseline."
    )
    calibration: Literal["none", "na", "mask", "x"] = parameter(
        "none",
        description="subtract what the model says to a query without content: `na` (N/A), `mask` ([MASK]) or "
        "`x` (an x for each word); twice the work.",
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return the ``min(k, n)`` nearest."""
        return ranked_picks(candidates.relevance, k)
