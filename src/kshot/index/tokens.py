"""Token vectors of a pool: float16 on disk, decoded where they are used.

Tokens lie in parts, one per segment. Small pools keep a decoded float32 copy in memory; larger ones decode
the rows that a query touches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float32s, Int64s
from kshot.index.token_base import TokenBase
from kshot.selectors.late_interaction import maxsim

DECODED_BYTES = 512 * 1024 * 1024
"""Largest float32 copy of a pool's tokens that is kept in memory."""
_CHUNK_NUMBERS = 1 << 15
_CHUNK_TOKENS = 2_048
_CHUNK_ROWS = 1024


def decode(tokens: NDArray[np.float16]) -> Float32s:
    """Widen finite float16 to float32, exactly.

    By arithmetic on the bits, in pieces that stay in the processor's cache: a third of the time of NumPy's
    ``astype`` or of faiss' codec. Sign, exponent and fraction move to their places in a float32; the product
    makes good for the other offset of the exponent, for numbers below the smallest normal one too.
    """
    source = np.ascontiguousarray(tokens).view(np.int16).reshape(-1)
    bits = np.empty(source.size, np.int32)
    wide = bits.view(np.float32)
    for first in range(0, source.size, _CHUNK_NUMBERS):
        piece = slice(first, first + _CHUNK_NUMBERS)
        bits[piece] = source[piece]
        bits[piece] <<= 13
        # Widening copied the sign into the three bits below the top one.
        bits[piece] &= np.int32(-0x70000001)
        wide[piece] *= np.float32(2.0**112)
    return wide.reshape(tokens.shape)


@dataclass(frozen=True, slots=True)
class TokenPart:
    """Tokens of the rows of one segment.

    Attributes
    ----------
    tokens : float16 array, shape (t, d)
    offsets : int64 array, shape (rows + 1,)
    decoded : float32 array, shape (t, d), or None
    """

    tokens: NDArray[np.float16]
    offsets: Int64s
    decoded: Float32s | None = None

    @property
    def rows(self) -> int:
        """Number of rows in this part."""
        return len(self.offsets) - 1

    def take(self, rows: Int64s) -> tuple[Float32s, Int64s]:
        """Return the tokens of some rows, one row after the other, and their offsets."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        positions = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        # `take` reads a memory map as fast as an array; an index does not.
        if self.decoded is not None:
            return self.decoded.take(positions, axis=0), offsets
        return decode(self.tokens.take(positions, axis=0)), offsets

    def chunks(self, first: int = 0) -> Iterator[tuple[int, int, Float32s, Int64s]]:
        """Yield (first row, last row, tokens, offsets) from a row to the end in bounded pieces."""
        while first < self.rows:
            limit = self.offsets[first] + _CHUNK_TOKENS
            last = max(first + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            start, stop = int(self.offsets[first]), int(self.offsets[last])
            source = self.decoded[start:stop] if self.decoded is not None else decode(self.tokens[start:stop])
            yield first, last, source, self.offsets[first : last + 1] - start
            first = last


class TokenView:
    """Immutable token vectors of the first n rows of a pool.

    Attributes
    ----------
    parts : tuple of TokenPart
    base : TokenBase or None
        Proposes rows and estimates scores, for the first ``len(base)`` rows.
    """

    def __init__(self, parts: Sequence[TokenPart], base: TokenBase | None = None) -> None:
        self.parts = tuple(parts)
        self.base = base
        self._starts = np.concatenate(
            [np.zeros(1, np.int64), np.cumsum([part.rows for part in parts], dtype=np.int64)]
        )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def count(self) -> int:
        """Number of token vectors."""
        return sum(int(part.offsets[-1]) for part in self.parts)

    @property
    def offsets(self) -> Int64s:
        """Where each row's tokens begin among those of all rows, shape (n + 1,). O(n)."""
        counts = [np.diff(part.offsets) for part in self.parts]
        return np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))

    def chunks(self, first: int = 0) -> Iterator[Float32s]:
        """Yield the tokens of the rows from ``first`` on, in bounded pieces."""
        for number, part in enumerate(self.parts):
            start = int(self._starts[number])
            if first < start + part.rows:
                for _, _, tokens, _ in part.chunks(max(first - start, 0)):
                    yield tokens

    def lengths(self, rows: Int64s) -> Int64s:
        """Count the tokens of some rows, which ascend."""
        counts = [part.offsets[local + 1] - part.offsets[local] for part, local, _ in self._split(rows)]
        return np.concatenate([np.empty(0, np.int64), *counts])

    def take(self, rows: Int64s) -> tuple[Float32s, Int64s]:
        """Return the tokens of at least one row as float32, with offsets of shape (len(rows) + 1,).

        ``rows`` ascend.
        """
        pieces = [part.take(local) for part, local, _ in self._split(rows)]
        if len(pieces) == 1:
            return pieces[0]
        lengths = np.concatenate([np.diff(offsets) for _, offsets in pieces])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        return np.concatenate([tokens for tokens, _ in pieces]), offsets

    def partial_scores(self, query_tokens: Float32s, weights: Float32s, rows: Int64s) -> Float32s:
        """Return ``weights[i] * max_j cos(x_i, z_j)`` for every query token i and every row z.

        Parameters
        ----------
        query_tokens : float32 array, shape (L, d)
            Unit rows.
        weights : float32 array, shape (L,)
        rows : int64 array, shape (m,)
            Ascending.

        Returns
        -------
        float32 array, shape (m, L)

        Notes
        -----
        O(tokens of the rows x L x d), exact up to the float16 storage of the tokens.
        """
        # Few of many are copied together; most of a part is read where it lies.
        if 0 < len(rows) <= min(_CHUNK_ROWS, len(self) // 2):
            return maxsim(query_tokens, *self.take(rows), weights)
        # Column-major, as `maxsim` answers and `coverage_greedy` reads.
        scores = np.empty((len(query_tokens), len(rows)), np.float32).T
        for part, local, place in self._split(rows):
            if len(local) > part.rows // 2:
                whole = np.empty((len(query_tokens), part.rows), np.float32).T
                for first, last, tokens, offsets in part.chunks():
                    whole[first:last] = maxsim(query_tokens, tokens, offsets, weights)
                scores[place] = whole if len(local) == part.rows else whole[local]
            else:
                for start in range(0, len(local), _CHUNK_ROWS):
                    piece = local[start : start + _CHUNK_ROWS]
                    tokens, offsets = part.take(piece)
                    target = slice(place.start + start, place.start + start + len(piece))
                    scores[target] = maxsim(query_tokens, tokens, offsets, weights)
        return scores

    def _split(self, rows: Int64s) -> Iterator[tuple[TokenPart, Int64s, slice]]:
        """Yield (part, rows within it, where they stand in ``rows``)."""
        bounds = np.searchsorted(rows, self._starts)
        for number, part in enumerate(self.parts):
            first, last = int(bounds[number]), int(bounds[number + 1])
            if first < last:
                yield part, rows[first:last] - self._starts[number], slice(first, last)
