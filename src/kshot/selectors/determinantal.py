"""Determinantal point processes: relevant sets whose members differ."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, Int64s, Picks, as_float64, require_finite, require_shape
from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors.base import require_count

_ROUNDING = 1e-12
"""Share by which residuals may differ and yet be the same: those of unit rows, to begin with."""
_REFRESH_EVERY = 64
"""Picks after which residuals are summed afresh; by then the subtractions may have cancelled digits."""


def dpp_map(
    kernel: ArrayLike | None = None,
    *,
    k: int,
    factors: ArrayLike | None = None,
    eps: float = 1e-10,
    parity: Literal["none", "reference"] = "none",
    given: ArrayLike = (),
    report: Callable[[int, int], object] | None = None,
) -> Picks:
    """Choose rows greedily so that the determinant of their kernel is as large as possible.

    Greedy maximisation of ``logdet L_S``: the volume spanned by the chosen rows. With ``given`` rows G, of
    ``logdet L_{S + G} - logdet L_G``: the volume that the chosen rows add to theirs.

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
    given : array of int, optional
        Row numbers that count as chosen before the first pick and are never picked.
    report : callable, optional
        Told how many of how many picks are made, after each.

    Returns
    -------
    Picks
        ``indices`` in pick order, fewer than k and than there are if the rank is exhausted; ``gains`` in
        nats: the increase of ``logdet L_S``, never rising; ``scores``: ``L_ii``. Diagnostics: ``logdet``,
        the sum of gains; ``rank_exhausted``.

    Raises
    ------
    InvalidShape
        The kernel is not square, a number is not finite, or ``given`` names rows that do not exist.
    InvalidInput
        The kernel is not symmetric.
    InvalidParameter
        Both or neither of ``kernel`` and ``factors`` are given; ``k`` below 1; ``eps`` not above 0;
        ``parity`` unknown.

    Notes
    -----
    O(n k (k + p)) time with factors and O(n k^2) with a kernel, O(n k) memory, all in float64; every given
    row outside the span of those before it counts as one more pick. Differs from the paper: a chosen row
    cannot return; the stop rule is relative to ``L_ii``, so that rows scaled down by a low relevance still
    count as directions of their own; residuals are clamped at 0 and summed afresh every 64 picks. Ties go to
    the lowest index, also among equal rows: the sums run row by row, whereas a BLAS product may round equal
    rows differently.

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
    L, B = _kernel_or_factors(kernel, factors)
    n = len(L if B is None else B)
    before = _row_numbers(given, n)
    free = np.ones(n, dtype=np.bool_)
    free[before] = False
    wanted = min(k, int(np.count_nonzero(free)))
    volume = _Volume(L, B, len(before), wanted)
    least = np.full(n, eps) if parity == "reference" else eps * volume.diagonal
    for row in before.tolist():
        if volume.residual[row] > 0 and volume.residual[row] >= least[row]:
            volume.add(row)
    indices: list[int] = []
    gains: list[float] = []
    while len(indices) < wanted:
        best = _best_free(volume.residual, free & (volume.residual >= least))
        if best is None:
            break
        gains.append(float(np.log(volume.residual[best])))
        indices.append(best)
        free[best] = False
        volume.add(best)
        if report is not None:
            report(len(indices), wanted)
    chosen = np.array(indices, dtype=np.int64)
    return Picks(
        chosen,
        gains=np.array(gains, dtype=np.float64),
        scores=volume.diagonal[chosen],
        diagnostics={"logdet": sum(gains), "rank_exhausted": len(indices) < wanted},
    )


def _kernel_or_factors(
    kernel: ArrayLike | None, factors: ArrayLike | None
) -> tuple[Float64s, Float64s | None]:
    if (kernel is None) == (factors is None):
        raise InvalidParameter("give either kernel or factors")
    if factors is not None:
        return np.empty((0, 0)), as_float64("factors", factors, (None, None))
    L = as_float64("kernel", np.asarray(kernel), (None, None))
    require_shape("kernel", L, (len(L), len(L)))
    if not np.allclose(L, L.T):
        raise InvalidInput("kernel is not symmetric")
    return L, None


def _row_numbers(given: ArrayLike, n: int) -> Int64s:
    rows = np.unique(np.asarray(given, dtype=np.int64))
    if rows.size and (rows[0] < 0 or rows[-1] >= n):
        raise InvalidShape(f"given names rows {rows[0]} to {rows[-1]}, allowed 0 to {n - 1}")
    return rows


class _Volume:
    """The volume that some rows span, and the squared height of each other row above it.

    Attributes
    ----------
    diagonal : float64 array, shape (n,)
        ``L_ii``.
    residual : float64 array, shape (n,)
        Factor by which the determinant grows if the row is added; at least 0.
    """

    def __init__(self, L: Float64s, B: Float64s | None, given: int, wanted: int) -> None:
        self._L, self._B = L, B
        self.diagonal: Float64s = L.diagonal() if B is None else np.einsum("ip,ip->i", B, B)
        self.residual = self.diagonal.copy()
        # No more rows are independent than the kernel has rank.
        self._C = np.zeros((len(self.diagonal), min(given, *(L if B is None else B).shape) + wanted))
        self._columns = 0

    def add(self, row: int) -> None:
        """Add one row, whose residual is above 0; a step of a pivoted Cholesky factorisation."""
        if self._columns == self._C.shape[1]:
            return
        C = self._C[:, : self._columns + 1]
        kernel_row = self._L[row] if self._B is None else np.einsum("ip,p->i", self._B, self._B[row])
        explained = np.einsum("it,t->i", C[:, :-1], C[row, :-1])
        C[:, -1] = (kernel_row - explained) / np.sqrt(self.residual[row])
        self.residual = np.maximum(self.residual - C[:, -1] ** 2, 0.0)
        self._columns += 1
        if self._columns % _REFRESH_EVERY == 0:
            self.residual = np.maximum(self.diagonal - np.einsum("it,it->i", C, C), 0.0)


def _best_free(residual: Float64s, eligible: Bools) -> int | None:
    values = np.where(eligible, residual, 0.0)
    largest = values.max(initial=0.0)
    return int((values >= largest * (1.0 - _ROUNDING)).argmax()) if largest > 0 else None


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
