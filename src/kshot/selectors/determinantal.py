"""Determinantal point processes: relevant sets whose members differ."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, Picks, as_float64, require_finite, require_shape
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors.base import require_count

_REFRESH_EVERY = 64
"""Picks after which residuals are summed afresh; by then the subtractions may have cancelled digits."""


def dpp_map(
    kernel: ArrayLike | None = None,
    *,
    k: int,
    factors: ArrayLike | None = None,
    eps: float = 1e-10,
    parity: Literal["none", "reference"] = "none",
) -> Picks:
    """Choose rows greedily so that the determinant of their kernel is as large as possible.

    Greedy maximisation of ``logdet L_S``: the volume spanned by the chosen rows.

    Parameters
    ----------
    kernel : array, shape (n, n), optional
        L, symmetric positive semi-definite; unitless.
    k : int
        Rows wanted, k >= 1.
    factors : array, shape (n, p), optional
        B with ``L = B B^T``; give this or ``kernel``. No n-by-n matrix is made.
    eps : float
        Above 0. A row whose residual is below ``eps`` times its own ``L_ii`` lies in the span of the chosen
        rows and is not chosen.
    parity : str
        "reference" stops where the code published with [1]_ does: at residuals below ``eps`` itself, however
        small ``L_ii`` is.

    Returns
    -------
    Picks
        ``indices`` in pick order, fewer than ``min(k, n)`` if the rank is exhausted; ``gains`` in nats: the
        increase of ``logdet L_S``, never rising; ``scores``: ``L_ii``. Diagnostics: ``logdet``, the sum of
        gains; ``rank_exhausted``.

    Raises
    ------
    InvalidShape
        The kernel is not square, or a number is not finite.
    InvalidInput
        The kernel is not symmetric.
    InvalidParameter
        Both or neither of ``kernel`` and ``factors`` are given; ``k`` below 1; ``eps`` not above 0;
        ``parity`` unknown.

    Notes
    -----
    O(n k (k + p)) time with factors and O(n k^2) with a kernel, O(n k) memory, all in float64. Differs from
    the paper: a chosen row cannot return; the stop rule is relative to ``L_ii``, so that rows scaled down
    by a low relevance still count as directions of their own; residuals are clamped at 0 and summed afresh
    every 64 picks. Ties go to the lowest index, also among equal rows: the sums run row by row, whereas a
    BLAS product may round equal rows differently.

    References
    ----------
    .. [1] Chen, Zhang, Zhou (2018), "Fast greedy MAP inference for determinantal point process to improve
       recommendation diversity", NeurIPS, Algorithm 1.

    Examples
    --------
    >>> dpp_map([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]], k=2).indices
    array([0, 2])
    """
    require_count(k)
    if not eps > 0:
        raise InvalidParameter(f"eps is {eps}, allowed > 0")
    if parity not in {"none", "reference"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed none, reference")
    if (kernel is None) == (factors is None):
        raise InvalidParameter("give either kernel or factors")
    if factors is not None:
        B = as_float64("factors", factors, (None, None))
        diagonal = np.einsum("ip,ip->i", B, B)
    else:
        B = None
        L = as_float64("kernel", np.asarray(kernel), (None, None))
        require_shape("kernel", L, (len(L), len(L)))
        if not np.allclose(L, L.T):
            raise InvalidInput("kernel is not symmetric")
        diagonal = L.diagonal()

    n = len(diagonal)
    wanted = min(k, n)
    C = np.zeros((n, wanted))
    residual = diagonal.copy()
    least = np.full(n, eps) if parity == "reference" else eps * diagonal
    free = np.ones(n, dtype=np.bool_)
    indices: list[int] = []
    gains: list[float] = []
    while len(indices) < wanted:
        best = _best_free(residual, free & (residual >= least))
        if best is None:
            break
        t = len(indices)
        row = L[best] if B is None else np.einsum("ip,p->i", B, B[best])
        explained = np.einsum("it,t->i", C[:, :t], C[best, :t])
        C[:, t] = (row - explained) / np.sqrt(residual[best])
        gains.append(float(np.log(residual[best])))
        indices.append(best)
        free[best] = False
        residual = np.maximum(residual - C[:, t] ** 2, 0.0)
        if len(indices) % _REFRESH_EVERY == 0:
            residual = np.maximum(diagonal - np.einsum("it,it->i", C, C), 0.0)
    chosen = np.array(indices, dtype=np.int64)
    return Picks(
        chosen,
        gains=np.array(gains, dtype=np.float64),
        scores=diagonal[chosen],
        diagnostics={"logdet": sum(gains), "rank_exhausted": len(indices) < wanted},
    )


def _best_free(residual: Float64s, eligible: Bools) -> int | None:
    values = np.where(eligible, residual, 0.0)
    best = int(values.argmax())
    return best if values[best] > 0 else None


def relevance_kernel_factors(
    query: ArrayLike | None, vectors: ArrayLike, lam: float, relevance: ArrayLike | None = None
) -> Float64s:
    """Factor the kernel that trades relevance to the query against diversity.

    ``L_ij = a_i K_ij a_j`` with ``K_ij = (1 + cos(z_i, z_j)) / 2``, ``r_i = (1 + cos(q, z_i)) / 2`` and
    ``a_i = exp((r_i - max r) / (2 lam))``, so that ``logdet L_S = (1 / lam) sum_{i in S} (r_i - max r) +
    logdet K_S``: ``lam`` towards 0 gives the most relevant rows, ``lam`` towards infinity pure diversity.

    Parameters
    ----------
    query : array, shape (d,), or None
        Unit vector; not looked at when ``relevance`` is given.
    vectors : array, shape (n, d)
        Unit rows.
    lam : float
        Above 0, in units of relevance.
    relevance : array, shape (n,), optional
        ``cos(q, z_i)`` where it is known already.

    Returns
    -------
    float64 array, shape (n, d + 1)
        B with ``L = B B^T``: rows ``a_i [z_i, 1] / sqrt(2)``.

    Raises
    ------
    InvalidShape
        Shapes disagree, or a number is not finite.
    InvalidParameter
        ``lam`` is not above 0, or both ``query`` and ``relevance`` are missing.

    References
    ----------
    .. [1] Ye, Wu, Feng, Yu, Kong (2023), "Compositional exemplars for in-context learning", ICML, section
       3.2.
    """
    if not lam > 0:
        raise InvalidParameter(f"lam is {lam}, allowed > 0")
    Z = np.asarray(vectors)
    require_shape("vectors", Z, (None, None))
    require_finite("vectors", Z)
    if relevance is not None:
        cosine = as_float64("relevance", relevance, (len(Z),))
    elif query is not None:
        cosine = np.einsum("id,d->i", Z.astype(np.float64), as_float64("query", query, (Z.shape[1],)))
    else:
        raise InvalidParameter("give the query or the relevance")
    r = (1.0 + cosine) / 2.0
    # A tiny lam overflows to minus infinity, whose exponential is the 0 that is meant.
    with np.errstate(over="ignore"):
        a = np.exp((r - r.max(initial=-np.inf)) / (2.0 * lam)) / np.sqrt(2.0)
    # Written in one pass: fresh memory for every step of the formula costs more than the arithmetic.
    factors: Float64s = np.empty((len(Z), Z.shape[1] + 1))
    np.multiply(Z, a[:, None], out=factors[:, :-1])
    factors[:, -1] = a
    return factors
