"""How well a text covers each token of the query: late interaction (MaxSim) and BERTScore-recall."""

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float32s, Float64s, Int64s, as_float64, require_finite, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.summation import row_sums

IDF_DESCRIPTION = "Whether query tokens that are rare in the pool weigh more (inverse document frequency)."
"""Of the parameter ``idf`` of every method that reads tokens."""


def maxsim(
    query_tokens: ArrayLike,
    tokens: ArrayLike,
    offsets: ArrayLike,
    weights: ArrayLike,
    *,
    max_bytes: int = 16 << 20,
) -> Float32s:
    """Score every query token against the best matching token of every row.

    ``partial[z, i] = weights_i * max_j <x_i, z_j>`` with j over the tokens of row z.

    Parameters
    ----------
    query_tokens : float32 array, shape (L, d)
        Token vectors of the query; unit rows make the products cosines.
    tokens : float32 array, shape (t, d)
        Token vectors of all rows, one after the other; unit rows.
    offsets : integer array, shape (n + 1,)
        Row z owns ``tokens[offsets[z]:offsets[z + 1]]``; starts at 0, ends at t.
    weights : array, shape (L,)
        Importance of each query token, >= 0; sum to 1 for scores in [-1, 1].
    max_bytes : int
        Memory for the token-by-token products; the work is cut into chunks of whole rows that fit. One row
        alone may exceed it.

    Returns
    -------
    float32 array, shape (n, L)
        In column-major order, which is how `coverage_greedy` reads it fastest. Its row sums are the BSR.

    Raises
    ------
    InvalidShape
        Shapes disagree, a row has no token, or a product is not finite.
    InvalidParameter
        A weight is negative, or ``max_bytes`` is not positive.

    Notes
    -----
    2 L t d floating-point operations, nearly all in one matrix product per chunk. Products are laid out as
    (L, chunk) so that each row's tokens are adjacent for ``numpy.maximum.reduceat``, which has no answer for
    an empty segment; hence the refusal of rows without tokens. Equal rows may differ by float32 rounding.

    References
    ----------
    .. [1] Khattab, Zaharia (2020), "ColBERT: efficient and effective passage search via contextualized late
       interaction over BERT", SIGIR, equation 3.
    """
    factors = as_float64("weights", weights, (None,)).astype(np.float32)
    queries = np.asarray(query_tokens, dtype=np.float32)
    matrix = np.asarray(tokens, dtype=np.float32)
    require_shape("query_tokens", queries, (len(factors), None))
    require_shape("tokens", matrix, (None, queries.shape[1]))
    if (factors < 0).any():
        raise InvalidParameter(f"weights go down to {factors.min()}, allowed >= 0")
    if max_bytes <= 0:
        raise InvalidParameter(f"max_bytes is {max_bytes}, allowed > 0")
    starts = np.asarray(offsets, dtype=np.int64)
    require_offsets(starts, len(matrix))

    n, n_queries = len(starts) - 1, len(queries)
    partial = np.empty((n_queries, n), dtype=np.float32)
    # A weight >= 0 commutes with the maximum: L * d products here instead of L * n at the end.
    weighted = queries * factors[:, None]
    if n_queries > 1:
        # BLAS takes four rows at a time, and longer over three of them than over four.
        weighted = weighted[np.arange(-(-n_queries // 4) * 4) % n_queries]
    tokens_per_chunk = max_bytes // (4 * max(n_queries, 1))
    first = 0
    while first < n:
        fitting = int(np.searchsorted(starts, starts[first] + tokens_per_chunk, side="right")) - 1
        end = max(fitting, first + 1)
        products = (weighted @ matrix[starts[first] : starts[end]].T)[:n_queries]
        np.maximum.reduceat(products, starts[first:end] - starts[first], axis=1, out=partial[:, first:end])
        first = end
    # The maximum passes NaN on, so checking the small result also checks the large input.
    require_finite("partial scores", partial.T)
    return partial.T


def require_offsets(offsets: Int64s, n_tokens: int) -> None:
    """Refuse offsets that do not cut ``n_tokens`` tokens into rows of at least one.

    Raises
    ------
    InvalidShape
        The message names the first row without a token, or the offsets.
    """
    require_shape("offsets", offsets, (None,))
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != n_tokens:
        raise InvalidShape(f"offsets must run from 0 to the {n_tokens} tokens, received {offsets}")
    lengths = np.diff(offsets)
    if (lengths <= 0).any():
        raise InvalidShape(f"row {int((lengths <= 0).argmax())} has no token; every row needs at least one")


def bsr_scores(partial_scores: ArrayLike) -> Float64s:
    """Sum a row's partial scores: its BERTScore-recall (BSR) of the query.

    ``BSR(x, z) = sum_i w_i max_j cos(x_i, z_j)``: to what extent each part of the query has a match in z.

    Parameters
    ----------
    partial_scores : float32 or float64 array, shape (n, L)
        As `maxsim` returns them.

    Returns
    -------
    float64 array, shape (n,)
        In [-1, 1] where weights sum to 1; zeros where L is 0. Summed in float64.

    Raises
    ------
    InvalidShape
        Not a matrix, or a sum is not finite.

    References
    ----------
    .. [1] Zhang, Kishore, Wu, Weinberger, Artzi (2020), "BERTScore", ICLR, section 3.
    .. [2] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP.
    """
    scores = np.asarray(partial_scores)
    require_shape("partial_scores", scores, (None, None))
    total = row_sums(scores)
    require_finite("sums of partial_scores", total)
    return total


def inverse_document_frequency(frequency: ArrayLike, n_documents: int) -> Float64s:
    """Weigh tokens by how few texts have them: ``ln((N + 1) / (frequency + 1))``.

    Parameters
    ----------
    frequency : integer array, shape (L,)
        In how many of the texts each token occurs, 0 to ``n_documents``.
    n_documents : int
        Texts in all, N.

    Returns
    -------
    float64 array, shape (L,)
        In nats; 0 for a token that every text has, such as a marker, ln(N + 1) for one that none has.

    Raises
    ------
    InvalidParameter
        A frequency is negative or above ``n_documents``.

    References
    ----------
    .. [1] Zhang, Kishore, Wu, Weinberger, Artzi (2020), "BERTScore", ICLR, section 3, importance weighting.
    """
    counts = as_float64("frequency", frequency, (None,))
    if len(counts) and not (counts.min() >= 0 and counts.max() <= n_documents):
        raise InvalidParameter(
            f"frequencies go from {counts.min():g} to {counts.max():g}, allowed 0 to {n_documents}"
        )
    idf: Float64s = np.log((n_documents + 1) / (counts + 1))
    return idf
