"""A set of demonstrations for all queries: rows that many others have as neighbours, less the redundant."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from kshot.arrays import Bools, Float64s, Int64s, Picks, as_float64
from kshot.errors import InvalidParameter
from kshot.selectors.base import require_count
from kshot.selectors.ranking import top_k

_BLOCK = 1024


def votek_overlap(
    vectors: ArrayLike, k: int, *, n_neighbors: int = 3, overlap_threshold: float = 1.0, seed: int = 0
) -> Picks:
    """Choose the rows with the most voters, except those whose voters a row with more of them has already.

    Every row votes for its nearest neighbours. Rows are looked at by falling number of voters; one is
    accepted unless some row looked at before it, accepted or not, has at least ``overlap_threshold`` of its
    voters. This goes by the name of vote-k in two toolkits, but is not the annotation method of that name:
    votes are neither discounted nor taken back.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Unit rows.
    k : int
        Rows wanted, k >= 1; all rows are chosen if there are fewer.
    n_neighbors : int
        Votes of each row, at least 1: 3 in one of the toolkits, 1 in the other.
    overlap_threshold : float
        Above 0: share of a row's voters, 1 for all of them. Above 1 nothing is rejected.
    seed : int
        For the rows drawn uniformly where fewer than k are accepted.

    Returns
    -------
    Picks
        ``indices``: first the accepted rows, most voters first, then the drawn ones. ``gains`` and
        ``scores``: voters. Diagnostics: ``filled``, the rows drawn.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, or not finite.
    InvalidParameter
        ``k`` or ``n_neighbors`` below 1, or ``overlap_threshold`` not above 0.

    Notes
    -----
    O(n^2 d) for the neighbours and O(n n_neighbors^2) on average for the overlaps; for n up to some
    thousands. Similarities count to 12 decimals, so that equal rows tie exactly (BLAS may round them
    differently); ties in similarity and in the number of voters go to the lowest index.

    References
    ----------
    .. [1] Wu et al. (2023), "OpenICL: an open-source framework for in-context learning", ACL demonstrations.
    .. [2] Wu, Wang, Ye, Kong (2023), "Self-adaptive in-context learning", ACL.
    """
    Z = as_float64("vectors", vectors, (None, None))
    require_count(k)
    if n_neighbors < 1:
        raise InvalidParameter(f"n_neighbors is {n_neighbors}, allowed >= 1")
    if not overlap_threshold > 0:
        raise InvalidParameter(f"overlap_threshold is {overlap_threshold}, allowed > 0")
    votes = _votes(Z, n_neighbors)
    voters = np.asarray(votes.sum(axis=0), dtype=np.int64)
    ranked = np.argsort(-voters, kind="stable")
    ranked = ranked[voters[ranked] > 0]
    accepted = ranked[_not_covered(votes, ranked, overlap_threshold)][:k]
    rest = np.setdiff1d(np.arange(len(Z)), accepted)
    drawn = np.random.default_rng(seed).permutation(rest)[: max(0, k - len(accepted))]
    indices = np.concatenate([accepted, drawn])
    counts = voters[indices].astype(np.float64)
    return Picks(indices, counts, counts, diagnostics={"filled": len(drawn)})


def _votes(Z: Float64s, n_neighbors: int) -> "csr_array[np.float64]":
    """Return a sparse matrix with a 1 at (i, j) where row i votes for row j."""
    n = len(Z)
    neighbours: list[Int64s] = []
    for start in range(0, n, _BLOCK):
        similarity = np.round(Z[start : start + _BLOCK] @ Z.T, 12)
        for i, row in enumerate(similarity, start):
            row[i] = -np.inf
            neighbours.append(top_k(row, min(n_neighbors, n - 1)) if n > 1 else np.empty(0, np.int64))
    owners = np.repeat(np.arange(n), [len(found) for found in neighbours])
    targets = np.concatenate([np.empty(0, np.int64), *neighbours])
    return csr_array((np.ones(len(targets)), (owners, targets)), shape=(n, n))


def _not_covered(votes: "csr_array[np.float64]", ranked: Int64s, threshold: float) -> Bools:
    """Tell which of the ranked rows share too few voters with every row ranked before them."""
    of_ranked = votes[:, ranked]
    shared = (of_ranked.T @ of_ranked).tocoo()
    own = shared.diagonal()
    covered = (shared.col < shared.row) & (shared.data >= threshold * own[shared.row])
    kept = np.ones(len(ranked), dtype=np.bool_)
    kept[shared.row[covered]] = False
    return kept
