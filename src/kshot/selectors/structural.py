"""Structural coverage: demonstrations that have the query's structures between them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Float64s, Picks
from kshot.selectors.registry import SELECTORS
from kshot.selectors.structure_cover import StructureCover, Weighting, covering_picks


def structural_recall(query: Sequence[Hashable], documents: Sequence[Sequence[Hashable]]) -> Float64s:
    """Score each structure of a query in each document: its share of the query if the document has it.

    ``R[z, s] = 1 / len(query)`` if document z has structure s, else 0.

    Parameters
    ----------
    query : sequence of structures, S of them
        As `kshot.structures.structures_of` gives them. One that occurs twice is a column twice.
    documents : sequence of such sequences, n of them

    Returns
    -------
    float64 array, shape (n, S)
        A row's sum is its recall: the share, in [0, 1], of the query's structures that it has. To be covered
        with `coverage_greedy`, or with `covering_picks`.

    Notes
    -----
    O(structures of the documents + n S). The share is rounded to float32, so that its multiples are exact in
    float64 and documents with equally many of the structures tie.

    References
    ----------
    .. [1] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP.

    Examples
    --------
    >>> structural_recall(["a", "b", "a", "c"], [["a"], ["b", "c", "c"]])
    array([[0.25, 0.  , 0.25, 0.  ],
           [0.  , 0.25, 0.  , 0.25]])
    """
    scores: Float64s = np.zeros((len(documents), len(query)), order="F")
    for z, document in enumerate(documents):
        present = set(document)
        scores[z] = [structure in present for structure in query]
    return scores * recall_share(len(query))


def recall_share(count: int) -> float:
    """Return what one of ``count`` structures counts in `structural_recall`."""
    return float(np.float32(1 / max(count, 1)))


@SELECTORS.register("structural")
@dataclass(frozen=True, slots=True)
class Structural(StructureCover):
    """Parts of the query's structure, such as word sequences, covered by the demonstrations together.

    Greedy coverage of the query's structures, each counting the same; see `structural_recall` and
    `coverage_greedy` for the formulas and their source. Gains are increases of the covered share within a
    round, scores the share of the query's structures that each pick has by itself. Where fewer than k
    candidates have any, the most similar others follow with gain and score 0 and are counted in the
    diagnostics as ``filled``; where none has, cosine similarity decides, with diagnostics ``{"fallback":
    "similarity"}``.
    """

    weighting: ClassVar[Weighting] = "recall"

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        return covering_picks(self.covered(candidates), candidates.relevance, k)
