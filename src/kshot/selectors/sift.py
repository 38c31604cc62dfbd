"""SIFT: the demonstrations that leave the least uncertainty about the query."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Float64s, Int64s, Picks, as_float64
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.base import check_parameters, parameter, require_count, require_part
from kshot.selectors.registry import SELECTORS

_SPANNED = 1e-12
"""Share of a row's own variance below which the chosen rows determine it and only rounding is left."""


def sift(
    vectors: ArrayLike,
    query: ArrayLike,
    k: int,
    noise: float = 0.01,
    *,
    parity: Literal["none", "reference"] = "none",
) -> Picks:
    """Choose rows one by one so that the query's posterior variance falls as fast as possible.

    The rows are noisy observations in a Gaussian process with the kernel ``k(x, y) = <x, y>``. Observing the
    rows X leaves the variance ``k(q, q) - k_X(q)^T (K_X + noise I)^-1 k_X(q)`` at the query q; each pick
    lowers it the most. What a similar row has shown already counts little, so near copies are passed over.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Rows to choose from; unit rows make the kernel the cosine.
    query : array, shape (d,) or (m, d)
        One query, or m of them, whose variances are added up.
    k : int
        Rows wanted, k >= 1; all rows are chosen if there are fewer.
    noise : float
        Above 0: variance of the noise, in units of the squared length of a row. Small: the nearest row
        first, then strictly what it does not tell yet; large: the rows with the largest ``|<q, z>|``.
    parity : str
        "reference" makes k observations of which several may be of the same row, as the authors' library
        does, where every observation is one training step.

    Returns
    -------
    Picks
        ``indices`` in pick order; ``gains``: by how much each pick lowers the variance, in units of squared
        length; they may grow from one pick to the next. ``scores``: inner products with the query, their
        mean if there are several. Diagnostics: ``posterior_variance``, first without any row, then after
        each pick, never rising. With ``parity="reference"`` that is after each observation, ``sequence``
        lists the rows observed, ``indices`` each of them once, in the order of first observation, and
        ``gains`` add up over its observations.

    Raises
    ------
    InvalidShape
        Shapes disagree, a number is not finite, or there is no query.
    InvalidParameter
        ``noise`` not above 0 or infinite, ``k`` below 1, or ``parity`` unknown.

    Notes
    -----
    O(k n (d + k + m)) time, O(n (k + m)) memory beside the input, in float64. The variances are updated as
    in a pivoted Cholesky factorisation, exactly; a row's gain may grow with what is chosen before it, so
    that a lazy search could miss the best row. Sums run row by row, so that equal rows tie exactly; ties go
    to the lowest index.

    References
    ----------
    .. [1] Hübotter, Bongni, Hakimi, Krause (2025), "Efficiently learning at test-time: active fine-tuning of
       LLMs", ICLR, Algorithm 1.

    Examples
    --------
    >>> picks = sift([[1, 0], [1, 0], [0.6, 0.8]], [0.8, 0.6], k=2, noise=0.01)
    >>> picks.indices
    array([2, 0])
    >>> [round(variance, 3) for variance in picks.diagnostics["posterior_variance"]]
    [1.0, 0.088, 0.007]
    """
    Z = as_float64("vectors", vectors, (None, None))
    given = np.asarray(query, dtype=np.float64)
    Q = as_float64("query", given[None] if given.ndim == 1 else given, (None, Z.shape[1]))
    if not len(Q):
        raise InvalidShape("query holds no vector")
    require_count(k)
    if not 0 < noise < np.inf:
        raise InvalidParameter(f"noise is {noise}, allowed finite and > 0")
    if parity not in {"none", "reference"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed none, reference")
    covariances = np.column_stack([np.einsum("id,d->i", Z, q) for q in Q])
    observed = k if parity == "reference" and len(Z) else min(k, len(Z))
    sequence, reductions = _observe(Z, covariances, observed, noise, repeats=parity == "reference")
    indices, first, observation = np.unique(sequence, return_index=True, return_inverse=True)
    gains = np.zeros(len(indices))
    np.add.at(gains, observation, reductions)
    in_order = np.argsort(first)
    indices = indices[in_order]
    remaining = np.einsum("md,md->", Q, Q) - np.cumsum(np.concatenate([np.zeros(1), reductions]))
    diagnostics: dict[str, Any] = {"posterior_variance": np.maximum(remaining, 0.0).tolist()}
    if parity == "reference":
        diagnostics["sequence"] = sequence.tolist()
    return Picks(
        indices,
        gains=gains[in_order],
        scores=covariances[indices].mean(axis=1),
        diagnostics=diagnostics,
    )


def _observe(
    Z: Float64s, covariances: Float64s, count: int, noise: float, *, repeats: bool
) -> tuple[Int64s, Float64s]:
    """Observe rows greedily; return which, and by how much each observation lowered the variance."""
    n = len(Z)
    own = np.einsum("id,id->i", Z, Z)
    variance = own
    free = np.ones(n, dtype=np.bool_)
    explained = np.empty((n, count))
    sequence = np.empty(count, dtype=np.int64)
    reductions = np.empty(count)
    for t in range(count):
        told = np.einsum("im,im->i", covariances, covariances) / (variance + noise)
        told = np.where(variance > _SPANNED * own, told, 0.0)
        best = int(np.where(free, told, -np.inf).argmax())
        sequence[t], reductions[t] = best, told[best]
        free[best] = repeats
        scale = np.sqrt(variance[best] + noise)
        conditional = np.einsum("id,d->i", Z, Z[best]) - np.einsum(
            "it,t->i", explained[:, :t], explained[best, :t]
        )
        explained[:, t] = conditional / scale
        covariances = covariances - np.outer(explained[:, t], covariances[best] / scale)
        variance = np.maximum(variance - explained[:, t] ** 2, 0.0)
    return sequence, reductions


@SELECTORS.register("sift")
@dataclass(frozen=True, slots=True)
class Sift:
    """Informative about the query and not redundant: least uncertainty left after each pick.

    Greedy reduction of the posterior variance at the query; see `sift` for the formula and its source. Gains
    are reductions of that variance, which is 1 without any demonstration; diagnostics show what is left as
    ``posterior_variance``. Scores are cosine similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.VECTORS})
    pool_wide: ClassVar[bool] = False

    noise: float = parameter(
        0.01,
        description="Noise of a demonstration: small drops near copies strictly, large is similarity alone.",
        gt=0,
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        vectors = require_part(candidates.vectors, Feature.VECTORS)
        query = require_part(candidates.query_vector, Feature.VECTORS)
        picks = sift(vectors, query, k, self.noise)
        return replace(picks, scores=candidates.relevance[picks.indices])
