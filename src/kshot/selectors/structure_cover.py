"""What the methods that cover the query's structures have in common."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Floats, Picks, as_float64
from kshot.selectors.base import check_parameters, parameter, require_part
from kshot.selectors.coverage import coverage_greedy
from kshot.selectors.ranking import ranked_picks, top_k
from kshot.structures import StructureKind

Weighting: TypeAlias = Literal["recall", "bm25"]
"""What a structure that a row shares with the query counts: its share of the query's structures (see
`structural_recall`), or its BM25 contribution to the row."""


def covering_picks(structure_scores: ArrayLike, relevance: ArrayLike, k: int) -> Picks:
    """Choose rows that cover the structures of the query, then, if too few have any, the most similar others.

    Parameters
    ----------
    structure_scores : array, shape (n, S)
        As `Candidates.structure_scores`.
    relevance : array, shape (n,)
        Cosine similarity to the query.
    k : int
        Rows wanted, k >= 1.

    Returns
    -------
    Picks
        First those of `coverage_greedy` among the rows with any score other than 0, with its gains, scores
        and diagnostics; then, with gains and scores 0, the rest by falling relevance. Diagnostics count them
        as ``filled``. If no row has any score, gains and scores are similarities and the diagnostics are
        ``{"fallback": "similarity"}``.

    Raises
    ------
    InvalidShape
        Shapes disagree, or a number is not finite.
    InvalidParameter
        ``k`` below 1.

    Notes
    -----
    The picks of `coverage_greedy` over all rows, but for the rows without any score: there they would be
    those ingested first. Costs as `coverage_greedy`; ties go to the lowest index.
    """
    similarity = as_float64("relevance", relevance, (None,))
    scores = as_float64("structure_scores", structure_scores, (len(similarity), None))
    matching = np.flatnonzero((scores != 0).any(axis=1))
    if not len(matching):
        return ranked_picks(similarity, k, {"fallback": "similarity"})
    if len(matching) < len(scores):
        # Transposed twice, so that the copy is column-major.
        covering = coverage_greedy(scores.T[:, matching].T, k)
    else:
        covering = coverage_greedy(scores, k)
    indices = matching[covering.indices]
    filled = min(k, len(scores)) - len(indices)
    if filled:
        left = similarity.copy()
        left[matching] = -np.inf
        indices = np.concatenate([indices, top_k(left, filled)])
    nothing = np.zeros(filled)
    return Picks(
        indices,
        gains=np.concatenate([covering.gains, nothing]),
        scores=np.concatenate([covering.scores, nothing]),
        diagnostics={**covering.diagnostics, "filled": filled},
    )


@dataclass(frozen=True, slots=True)
class StructureCover:
    """The parameters of a method over `Candidates.structure_scores`, by which the index computes them.

    For methods that choose by `covering_picks`: the index leaves out rows that this would not choose.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.STRUCTURES})
    pool_wide: ClassVar[bool] = False
    weighting: ClassVar[Weighting]

    structures: StructureKind = parameter(  # noqa: RUF009  an alias of a Literal is taken for a mutable type
        "ngrams",
        description="What counts as a structure: word sequences, subtrees of the dependency trees of English "
        "sentences (needs kshot[spacy]), or parent-child and sibling pairs in the syntax trees of Python or "
        "SQL (needs kshot[sql]).",
    )
    max_words: int = parameter(4, description="Longest word sequence; for `ngrams` only.", ge=1, le=8)

    def __post_init__(self) -> None:
        check_parameters(self)

    def covered(self, candidates: Candidates) -> Floats:
        """Return the scores by structure."""
        return require_part(candidates.structure_scores, Feature.STRUCTURES)
