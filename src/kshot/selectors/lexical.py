"""BM25 over a sparse matrix: contributions are computed once, a query adds up columns."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csc_array

from kshot.arrays import Float64s, as_float64
from kshot.errors import InvalidParameter


class Bm25Variant(StrEnum):
    """Which of the formulas named BM25."""

    OKAPI = "okapi"
    """``ln((N - df + 0.5) / (df + 0.5))``; negative ones are raised to ``eps`` times the mean."""
    LUCENE = "lucene"
    """``ln(1 + (N - df + 0.5) / (df + 0.5))``, never negative, and no factor ``k1 + 1``."""


def bm25_contributions(
    counts: "csc_array[Any]",
    *,
    variant: str = Bm25Variant.OKAPI,
    k1: float = 1.5,
    b: float = 0.75,
    eps: float = 0.25,
    lengths: ArrayLike | None = None,
) -> "csc_array[np.float64]":
    """Turn term counts into what one occurrence of each term in a query adds to each document's score.

    ``idf(t) * f (k1 + 1) / (f + k1 (1 - b + b |D| / avgdl))`` with f the count of t in D.

    Parameters
    ----------
    counts : sparse array, shape (N, m)
        How often each of the m terms occurs in each of the N documents; not changed.
    variant : Bm25Variant or its value
        Formula of the inverse document frequency; see `Bm25Variant`.
    k1 : float
        At least 0: how slowly repetitions within a document saturate.
    b : float
        In [0, 1]: how much long documents are discounted.
    eps : float
        At least 0, okapi only: terms in more than half of the documents would count against a document;
        they get ``eps`` times the mean idf over the vocabulary instead, a mean that includes the negative
        ones (and may itself be negative in a tiny collection).
    lengths : array, shape (N,), optional
        Terms of each document, repetitions included; needed where ``counts`` holds some of the terms only,
        such as those of one query. Row sums by default.

    Returns
    -------
    csc_array of float64, shape (N, m)
        The score of a query is the sum of its tokens' columns, a repeated token counting each time.

    Raises
    ------
    InvalidParameter
        A parameter is outside its range, or the variant unknown.
    InvalidShape
        There are not as many lengths as documents.

    Notes
    -----
    O(number of non-zero counts).

    References
    ----------
    .. [1] Robertson, Zaragoza (2009), "The probabilistic relevance framework: BM25 and beyond", Foundations
       and Trends in Information Retrieval 3.
    .. [2] Kamphuis, de Vries, Boytsov, Lin (2020), "Which BM25 do you mean?", ECIR.
    """
    if variant not in tuple(Bm25Variant):
        raise InvalidParameter(f"variant is {variant!r}, allowed {', '.join(Bm25Variant)}")
    for name, value, allowed in (("k1", k1, k1 >= 0), ("b", b, 0 <= b <= 1), ("eps", eps, eps >= 0)):
        if not allowed:
            raise InvalidParameter(f"{name} is {value}, allowed {'0 to 1' if name == 'b' else '>= 0'}")
    present = csc_array(counts, dtype=np.float64, copy=True)
    present.sum_duplicates()
    present.eliminate_zeros()
    n_documents = present.shape[0]
    frequency = np.diff(present.indptr)
    absent_odds = (n_documents - frequency + 0.5) / (frequency + 0.5)
    if variant == Bm25Variant.OKAPI:
        idf = np.log(absent_odds)
        if len(idf):
            idf[idf < 0] = eps * idf.mean()
        idf *= k1 + 1
    else:
        idf = np.log1p(absent_odds)

    sizes = as_float64("lengths", present.sum(axis=1) if lengths is None else lengths, (n_documents,))
    # An empty collection has no entry to discount, so any mean will do.
    relative = sizes / (sizes.mean() if sizes.any() else 1.0)
    saturation = k1 * (1 - b + b * relative)
    present.data *= np.repeat(idf, frequency) / (present.data + saturation[present.indices])
    return present


@dataclass(frozen=True, slots=True)
class Bm25Matrix:
    """A collection ready for BM25 queries; immutable, so any number of threads may share it.

    Attributes
    ----------
    vocabulary : mapping from token to column
    contributions : csc_array of float64, shape (n documents, m terms)
        From `bm25_contributions`.
    """

    vocabulary: Mapping[Hashable, int]
    contributions: "csc_array[np.float64]"

    @classmethod
    def build(
        cls,
        documents: Sequence[Sequence[Hashable]],
        *,
        variant: str = Bm25Variant.OKAPI,
        k1: float = 1.5,
        b: float = 0.75,
        eps: float = 0.25,
    ) -> "Bm25Matrix":
        """Count the tokens of every document and weigh them; parameters as in `bm25_contributions`."""
        vocabulary: dict[Hashable, int] = {}
        columns = [vocabulary.setdefault(token, len(vocabulary)) for tokens in documents for token in tokens]
        rows = np.repeat(np.arange(len(documents)), [len(tokens) for tokens in documents])
        counts = coo_array(
            (np.ones(len(columns)), (rows, np.array(columns, dtype=np.int64))),
            shape=(len(documents), len(vocabulary)),
        )
        return cls(vocabulary, bm25_contributions(counts.tocsc(), variant=variant, k1=k1, b=b, eps=eps))

    def scores(self, query_tokens: Sequence[Hashable]) -> Float64s:
        """Score every document; tokens outside the vocabulary add nothing, repeated ones add repeatedly.

        Returns a float64 array of shape (n,), exactly 0 for a document without any of the tokens. The cost
        follows the documents that hold a query token, plus O(n) for the result.
        """
        matrix = self.contributions
        columns = [self.vocabulary[token] for token in query_tokens if token in self.vocabulary]
        total: Float64s = np.zeros(matrix.shape[0])
        for column in columns:
            part = slice(matrix.indptr[column], matrix.indptr[column + 1])
            rows: NDArray[Any] = matrix.indices[part]
            # A column holds each row at most once, so plain indexing adds every entry.
            total[rows] += matrix.data[part]
        return total


def bm25_scores(
    documents: Sequence[Sequence[Hashable]],
    query_tokens: Sequence[Hashable],
    *,
    variant: str = Bm25Variant.OKAPI,
    k1: float = 1.5,
    b: float = 0.75,
    eps: float = 0.25,
) -> Float64s:
    """Score documents against a query once; for many queries build a `Bm25Matrix` and keep it.

    Parameters
    ----------
    documents : sequence of token sequences, n of them
        Tokens are compared as they are: split and case-fold before.
    query_tokens : sequence of tokens
    variant, k1, b, eps
        As in `bm25_contributions`.

    Returns
    -------
    float64 array, shape (n,)
        Unitless; exactly 0 for a document without any query token.

    Raises
    ------
    InvalidParameter
        As `bm25_contributions`.

    Examples
    --------
    >>> bm25_scores([["a", "cat"], ["a", "dog"], ["a", "bird"]], ["cat"]).round(3)
    array([0.511, 0.   , 0.   ])
    """
    return Bm25Matrix.build(documents, variant=variant, k1=k1, b=b, eps=eps).scores(query_tokens)
