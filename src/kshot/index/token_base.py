"""A sealed index over the tokens of a large pool: which rows may match a query, and about how well."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s
from kshot.index.token_clusters import TokenClusters, unit
from kshot.index.token_lists import TokenLists
from kshot.selectors.late_interaction import bsr_scores, maxsim

MAX_DIMENSION = 128
"""Principal components kept of a token: 89 % of the energy of MiniLM's fourth layer."""
LEAST_LISTS = 16
MOST_LISTS = 128
MARGIN = 0.2
"""For each query token at least so many lists are scanned, at most so many, and between those the ones whose
centroid is less alike to it than the best by no more than this: tokens that nothing is close to need many."""
USUAL_DEPTH = 100
MOST_DEPTH = 256
LEAST_DEPTH = 16
PROPOSED_ROWS = 3_000
"""Tokens that each query token proposes: the first number, more in large pools up to the second, but not so
many that all together propose more than the last; yet the third at least."""
SPARSE = 0.1
SPARSE_ROWS = 4_096
"""Of a share of eligible rows below the first number, and no more rows than the second, all are proposed:
most tokens in a list would belong to others."""
_SPREAD_QUERIES = 24
MOST_PROPOSING = 64
"""Query tokens that propose rows; of longer queries, evenly spaced ones."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """The directions in which tokens vary most, and the unit of their 8-bit codes along each.

    Attributes
    ----------
    basis : float32 array, shape (d_t, d)
        Orthonormal columns.
    steps : float32 array, shape (d,)
        Positive.
    spread : float
        Standard deviation of BSR over the rows of a pool, in units of what projected tokens give.
    """

    basis: Float32s
    steps: Float32s
    spread: float

    @classmethod
    def of(cls, tokens: Float32s, offsets: Int64s) -> "Reduction":
        """Take the principal components of the tokens of a sample of rows, at most `MAX_DIMENSION` of them.

        O(n d_t^2).
        """
        moments = (tokens.T @ tokens).astype(np.float64)
        basis = np.linalg.eigh(moments)[1][:, ::-1][:, :MAX_DIMENSION]
        basis = np.ascontiguousarray(basis, np.float32)
        projected = tokens @ basis
        largest = np.abs(unit(projected)).max(axis=0, initial=0.0)
        steps = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
        return cls(basis, steps, _spread(tokens, projected, offsets))

    @property
    def dimension(self) -> int:
        """Numbers that are left of a token."""
        return len(self.steps)

    def reduce(self, tokens: Float32s) -> Float32s:
        """Project tokens and scale them to length 1 again.

        Products of the results come nearer to the true cosines than those of plain projections, and err
        upwards: a row that looks too good is found out when it is scored exactly, few look too bad.
        """
        return unit(self.project(tokens))

    def project(self, tokens: Float32s) -> Float32s:
        """Project tokens; with `spread`, what BSR is over a whole pool follows from them."""
        return tokens @ self.basis

    def encode(self, reduced: Float32s) -> NDArray[np.int8]:
        """Round reduced tokens to 8 bits per direction."""
        codes: NDArray[np.int8] = np.clip(np.rint(reduced / self.steps), -127, 127).astype(np.int8)
        return codes


def _spread(tokens: Float32s, projected: Float32s, offsets: Int64s) -> float:
    """Compare the spread of BSR with that of its projection, each sampled row in turn being the query."""
    n = len(offsets) - 1
    ratios = []
    for row in np.linspace(0, n - 1, min(_SPREAD_QUERIES, n)).astype(np.int64).tolist() if n > 1 else ():
        mine = slice(int(offsets[row]), int(offsets[row + 1]))
        weights = np.full(mine.stop - mine.start, 1.0 / (mine.stop - mine.start), np.float32)
        # Without the row itself, which matches as no other does.
        true, estimate = (
            float(np.delete(bsr_scores(maxsim(each[mine], each, offsets, weights)), row).std())
            for each in (tokens, projected)
        )
        if estimate > 0:
            ratios.append(true / estimate)
    return float(np.mean(ratios or [1.0]))


@dataclass(frozen=True, slots=True)
class TokenBase:
    """Tokens of the first rows of a pool, reduced and clustered. Immutable, safe from any thread.

    Attributes
    ----------
    reduction : Reduction
    clusters : TokenClusters
    lists : TokenLists
        The reduced tokens by cluster.
    codes : int8 array, shape (t, d)
        The same tokens by row.
    offsets : int64 array, shape (n + 1,)
        Row z owns ``codes[offsets[z]:offsets[z + 1]]``.
    trained_rows : int
        Rows of the pool when reduction and clusters were made.
    """

    reduction: Reduction
    clusters: TokenClusters
    lists: TokenLists
    codes: NDArray[np.int8]
    offsets: Int64s
    trained_rows: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def propose(self, query_tokens: Float32s, eligible: Bools | None, k: int = 1) -> Int64s:
        """Return rows that match some token of the query best, ascending: about a hundred for each token.

        Parameters
        ----------
        query_tokens : float32 array, shape (L, d_t)
            Unit rows.
        eligible : bool array, shape (n,), or None
            Rows that count, at least one; None: all. The fewer there are, the more lists are scanned.
        k : int
            Tokens to propose for each query token, at least.
        """
        share = 1.0
        if eligible is not None:
            count = np.count_nonzero(eligible)
            share = count / len(eligible)
            if share < SPARSE and count <= SPARSE_ROWS:
                return np.flatnonzero(eligible)
        if len(query_tokens) > MOST_PROPOSING:
            spaced = np.linspace(0, len(query_tokens) - 1, MOST_PROPOSING).astype(np.int64)
            query_tokens = query_tokens[spaced]
        reduced = self.reduction.reduce(query_tokens)
        depth = min(max(USUAL_DEPTH, math.isqrt(len(self))), MOST_DEPTH)
        depth = max(min(depth, PROPOSED_ROWS // max(len(reduced), 1)), LEAST_DEPTH, k)
        found = self.lists.search(reduced, self._probes(reduced, share), depth, eligible)
        rows = np.unique(found)
        return rows[rows >= 0]

    def estimate(self, query_tokens: Float32s, weights: Float32s, rows: Int64s) -> Float32s:
        """Estimate ``weights[i] * max_j cos(x_i, z_j)`` for some rows, shape (m, L), column-major."""
        count = len(query_tokens)
        if not len(rows) or not count:
            return np.empty((count, len(rows)), np.float32).T
        reduced = self.reduction.reduce(query_tokens) * self.reduction.steps * weights[:, None]
        # As in `maxsim`: BLAS takes four rows at a time.
        reduced = reduced[np.arange(-(-count // 4) * 4) % count]
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = np.cumsum(lengths)
        places = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
        products = reduced @ self.codes.take(places, axis=0).astype(np.float32).T
        scores: Float32s = np.maximum.reduceat(products[:count], ends - lengths, axis=1)
        return scores.T

    def _probes(self, reduced: Float32s, share: float) -> Int64s:
        """Choose the lists to scan for each query token, -1 where there are no more."""
        similarities = reduced @ self.clusters.centroids.T
        lists = len(self.clusters)
        most = min(math.ceil(MOST_LISTS / share), lists)
        near = np.argpartition(similarities, lists - most, axis=1)[:, lists - most :]
        values = np.take_along_axis(similarities, near, axis=1)
        order = np.argsort(-values, axis=1)
        near, values = np.take_along_axis(near, order, axis=1), np.take_along_axis(values, order, axis=1)
        wanted = values >= values[:, :1] - MARGIN
        wanted[:, : math.ceil(LEAST_LISTS / share)] = True
        widest = int(wanted.sum(axis=1).max(initial=0))
        return np.where(wanted, near, -1)[:, :widest]
