"""As many demonstrations of one label as of another."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.base import check_parameters, parameter, require_count, require_part
from kshot.selectors.ranking import top_k
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("label_balanced")
@dataclass(frozen=True, slots=True)
class LabelBalanced:
    """Most similar to the query within each label, the labels taking turns.

    Labels are ordered by their most similar row, rows without a label forming a group of their own at the
    end. The first ``min(labels present, max_labels, k // min_per_label)`` groups, at least one, give their
    rows in turn, most similar first. Places that these groups cannot fill go to the most similar rows left,
    counted in the diagnostics as ``filled``; ``labels`` is the number of groups. Gains and scores are
    cosine similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.LABELS})
    pool_wide: ClassVar[bool] = True

    max_labels: int | None = parameter(
        None, description="Labels to draw from at most, those nearest to the query; all if absent.", ge=1
    )
    min_per_label: int = parameter(
        1, description="Demonstrations per label at least, with fewer labels if k is too small.", ge=1
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        labels = np.maximum(require_part(candidates.labels, Feature.LABELS), -1)
        require_count(k)
        n = len(candidates)
        ranked = np.argsort(-candidates.relevance, kind="stable")
        ranked_labels = labels[ranked]
        codes, first_rank = np.unique(ranked_labels, return_index=True)
        first_rank[codes == -1] = n
        wanted = min(len(codes), self.max_labels or len(codes), max(1, k // self.min_per_label))
        groups = codes[np.argsort(first_rank)][:wanted]

        queues = [ranked[ranked_labels == code][:k] for code in groups]
        turns = [np.arange(len(queue)) for queue in queues]
        taking_turns = np.argsort(_joined(turns), kind="stable")
        indices = _joined(queues)[taking_turns][:k]

        filled = min(k, n) - len(indices)
        if filled:
            left = candidates.relevance.copy()
            left[indices] = -np.inf
            indices = np.concatenate([indices, top_k(left, filled)])
        chosen = candidates.relevance[indices]
        return Picks(
            indices, gains=chosen, scores=chosen, diagnostics={"labels": len(groups), "filled": filled}
        )


def _joined(
    arrays: list[np.ndarray[tuple[int], np.dtype[np.int64]]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([np.empty(0, dtype=np.int64), *arrays])
