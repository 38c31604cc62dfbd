"""As many demonstrations of one label as of another, or as many of each as one says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from kshot.arrays import Candidates, Feature, Float64s, Int64s, Picks
from kshot.errors import FieldError, InvalidInput, InvalidParameter
from kshot.selectors.base import parameter, require_count, require_part
from kshot.selectors.fused_relevance import FusedRelevance
from kshot.selectors.ranking import top_k
from kshot.selectors.registry import SELECTORS

_SHOWN_LABELS = 20


@SELECTORS.register("label_balanced")
@dataclass(frozen=True, slots=True)
class LabelBalanced(FusedRelevance):
    """Most similar to the query within each label, the labels taking turns.

    Labels are ordered by their most relevant row, rows without a label forming a group of their own at the
    end. The first ``min(labels present, max_labels, k // min_per_label)`` groups, at least one, give their
    rows in turn, most relevant first. With "proportional" ``quotas``, each group first gives
    ``min_per_label`` rows; after that the next row comes from the group with the largest ``size / (given +
    1/2)`` [1]_, size being its number of candidates. With numbers per label, only the labels named take
    turns, until each has given its number; numbers that cannot be reached, for want of rows or of places,
    stand in the diagnostics as ``unmet``.

    Places that the groups leave go to the most relevant rows left, of any label, counted in the diagnostics
    as ``filled``; ``labels`` is the number of groups. Gains and scores are the relevance: the cosine or, if
    ``relevance`` says so, the weighed sum that `fused` ranks by, in standard deviations.

    References
    ----------
    .. [1] Balinski, Young (1982), "Fair representation: meeting the ideal of one man, one vote", Webster's
       method; its shares for k are those for k - 1 and one more.
    """

    pool_wide: ClassVar[bool] = True

    max_labels: int | None = parameter(
        None, description="Labels to draw from at most, those nearest to the query; all if absent.", ge=1
    )
    min_per_label: int = parameter(
        1, description="Demonstrations per label at least, with fewer labels if k is too small.", ge=1
    )
    quotas: Literal["equal", "proportional"] | Mapping[str, int] = parameter(
        "equal",
        description="Shares of the labels: equal, proportional to the eligible examples, or a number per "
        'label such as {"refund": 2, "other": 1}.',
    )
    relevance: Literal["similarity", "fused"] = parameter(
        "similarity", description="What counts as relevant: the cosine, or the fused relevance."
    )

    def __post_init__(self) -> None:
        FusedRelevance.__post_init__(self)
        wanted = _refused(self.quotas)
        if (
            wanted is None
            and isinstance(self.quotas, Mapping)
            and (self.max_labels or self.min_per_label > 1)
        ):
            wanted = "without max_labels and min_per_label only"
        if wanted is not None:
            message = f"received {self.quotas!r}, allowed {wanted}"
            raise InvalidParameter(f"quotas: {message}", errors=[FieldError("/method/quotas", message)])

    @property
    def is_fused(self) -> bool:
        """Whether ``relevance`` is the weighed sum."""
        return self.relevance == "fused"

    @property
    def needs(self) -> frozenset[Feature]:
        """Labels, and what the relevance is computed from."""
        return self.fused_needs | {Feature.LABELS}

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks.

        Raises
        ------
        InvalidParameter
            ``quotas`` name a label that does not exist; the message names those that do.
        """
        labels = np.maximum(require_part(candidates.labels, Feature.LABELS), -1)
        require_count(k)
        relevance = candidates.relevance
        diagnostics: dict[str, Any] = {}
        if self.is_fused:
            fused = self.fused_scores(candidates)
            relevance = fused.values
            diagnostics |= fused.diagnostics
        if isinstance(self.quotas, Mapping):
            code_to_limit = _by_code(self.quotas, labels, candidates)
            groups = [group for group in _groups(relevance, labels) if group[0] in code_to_limit]
        else:
            groups = _groups(relevance, labels)
            wanted = min(len(groups), self.max_labels or len(groups), max(1, k // self.min_per_label))
            groups = groups[:wanted]
            code_to_limit = dict.fromkeys((code for code, _ in groups), k)

        queues = [rows[: min(k, code_to_limit[code])] for code, rows in groups]
        turns = [self._turns(len(queue), len(rows)) for queue, (_, rows) in zip(queues, groups, strict=True)]
        in_turn = np.argsort(np.concatenate([np.empty(0), *turns]), kind="stable")[:k]
        indices = np.concatenate([np.empty(0, np.int64), *queues])[in_turn]
        if isinstance(self.quotas, Mapping):
            given = {code: int((labels[indices] == code).sum()) for code in code_to_limit}
            missing = {
                name: quota - given[code]
                for (name, quota), code in zip(self.quotas.items(), code_to_limit, strict=True)
            }
            diagnostics["unmet"] = {name: count for name, count in missing.items() if count}

        filled = min(k, len(candidates)) - len(indices)
        if filled:
            left = relevance.copy()
            left[indices] = -np.inf
            indices = np.concatenate([indices, top_k(left, filled)])
        chosen = relevance[indices]
        diagnostics |= {"labels": len(groups), "filled": filled}
        return Picks(indices, gains=chosen, scores=chosen, diagnostics=diagnostics)

    def _turns(self, count: int, size: int) -> Float64s:
        """Say when a group of this size gives each of its first rows; lower is earlier."""
        given = np.arange(count, dtype=np.float64)
        if self.quotas != "proportional":
            return given
        return np.where(given < self.min_per_label, given - self.min_per_label, (given + 0.5) / size)


def _groups(relevance: Float64s, labels: Int64s) -> list[tuple[int, Int64s]]:
    """Return (label, rows by falling relevance), the label with the most relevant row first, -1 last."""
    ranked = np.argsort(-relevance, kind="stable")
    ranked_labels = labels[ranked]
    codes, first_rank = np.unique(ranked_labels, return_index=True)
    first_rank[codes == -1] = len(labels)
    return [(int(code), ranked[ranked_labels == code]) for code in codes[np.argsort(first_rank)]]


def _refused(quotas: object) -> str | None:
    if isinstance(quotas, Mapping):
        fits = bool(quotas) and all(isinstance(count, int) and count >= 1 for count in quotas.values())
    else:
        fits = quotas in {"equal", "proportional"}
    return None if fits else "'equal', 'proportional' or an object of numbers >= 1 by label"


def _by_code(quotas: Mapping[str, int], labels: Int64s, candidates: Candidates) -> dict[int, int]:
    """Return the numbers by label code, in the order of ``quotas``."""
    if candidates.label_names is None:
        raise InvalidInput("quotas by label need the candidates' label_names, and they come without")
    name_to_code = {name: code for code, name in enumerate(candidates.label_names)}
    unknown = [name for name in quotas if name not in name_to_code]
    if unknown:
        known = sorted(candidates.label_names[code] for code in np.unique(labels).tolist() if code >= 0)
        shown = ", ".join(map(repr, known[:_SHOWN_LABELS])) or "none"
        more = f" and {len(known) - _SHOWN_LABELS} more" if len(known) > _SHOWN_LABELS else ""
        message = f"received {unknown[0]!r}, which is no label here; labels: {shown}{more}"
        raise InvalidParameter(f"quotas: {message}", errors=[FieldError("/method/quotas", message)])
    return {name_to_code[name]: quota for name, quota in quotas.items()}
