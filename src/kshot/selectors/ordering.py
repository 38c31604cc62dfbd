"""The order of the picks in the prompt: first = farthest from the query, last = next to it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Int64s, as_float64, require_shape
from kshot.errors import FieldError, InvalidInput, InvalidParameter


class PromptOrder(StrEnum):
    """Names of prompt orders."""

    NEAREST_LAST = "nearest_last"
    """Rising relevance: models lean on what stands next to the query. The default."""
    NEAREST_FIRST = "nearest_first"
    """Falling relevance."""
    LABEL_INTERLEAVED = "label_interleaved"
    """Equal labels kept apart, the most relevant demonstration last."""
    RANDOM = "random"
    """A seeded shuffle."""
    EASY_TO_HARD = "easy_to_hard"
    """Rising difficulty; rising length where no difficulty is known."""
    AS_SELECTED = "as_selected"
    """Pick order, first pick farthest from the query."""


def prompt_order(
    name: str,
    scores: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    difficulty: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Int64s:
    """Arrange picks for the prompt.

    Parameters
    ----------
    name : PromptOrder or its value
    scores : array, shape (k,)
        `Picks.scores`, in pick order; larger is more relevant.
    labels : integer array, shape (k,), optional
        Codes; rows without a label share the code -1. Required by ``label_interleaved``.
    difficulty : array, shape (k,), optional
        Larger is harder, any unit. For ``easy_to_hard``.
    lengths : integer array, shape (k,), optional
        Prompt tokens; takes the place of a missing ``difficulty``.
    rng : numpy.random.Generator, optional
        Required by ``random``.

    Returns
    -------
    int64 array, shape (k,)
        A permutation of ``0 .. k - 1``: position p of the prompt shows pick ``result[p]``.

    Raises
    ------
    InvalidParameter
        The name is unknown.
    InvalidInput
        The order needs something that is missing.
    InvalidShape
        An array has another length than ``scores``, or holds NaN or infinity.

    Notes
    -----
    Equal scores, and equal difficulties, keep pick order. ``label_interleaved`` goes from the query
    outwards: the most relevant pick comes first, then always a pick of the label with most picks left,
    other than the label just placed where possible; labels with equally many left take turns by how long
    ago they were placed, then by their most relevant pick left. No other order with that last demonstration
    has fewer neighbours of equal label, and unavoidable ones end up far from the query. O(k^2) for it, O(k
    log k) for the rest.

    References
    ----------
    .. [1] Zhao, Wallace, Feng, Klein, Singh (2021), "Calibrate before use", ICML, on recency bias.

    Examples
    --------
    >>> prompt_order("nearest_last", [0.9, 0.2, 0.5])
    array([1, 2, 0])
    """
    if name not in tuple(PromptOrder):
        message = f"received {name!r}, allowed {', '.join(PromptOrder)}"
        raise InvalidParameter(f"order: {message}", errors=[FieldError("/order", message)])
    relevance = as_float64("scores", scores, (None,))
    k = len(relevance)
    facts = _Facts(
        relevance=relevance,
        labels=None if labels is None else np.asarray(labels, dtype=np.int64),
        difficulty=_difficulty(k, difficulty, lengths),
        rng=rng,
    )
    if facts.labels is not None:
        require_shape("labels", facts.labels, (k,))
    return _NAME_TO_ORDER[PromptOrder(name)](facts)


@dataclass(frozen=True, slots=True)
class _Facts:
    relevance: Float64s
    labels: Int64s | None
    difficulty: Float64s | None
    rng: np.random.Generator | None


def _difficulty(k: int, difficulty: ArrayLike | None, lengths: ArrayLike | None) -> Float64s | None:
    if difficulty is not None:
        return as_float64("difficulty", difficulty, (k,))
    if lengths is not None:
        return as_float64("lengths", lengths, (k,))
    return None


def _nearest_last(facts: _Facts) -> Int64s:
    return np.argsort(facts.relevance, kind="stable")


def _nearest_first(facts: _Facts) -> Int64s:
    return np.argsort(-facts.relevance, kind="stable")


def _as_selected(facts: _Facts) -> Int64s:
    return np.arange(len(facts.relevance), dtype=np.int64)


def _random(facts: _Facts) -> Int64s:
    if facts.rng is None:
        raise InvalidInput("order 'random' needs a random generator")
    return facts.rng.permutation(len(facts.relevance))


def _easy_to_hard(facts: _Facts) -> Int64s:
    if facts.difficulty is None:
        raise InvalidInput("order 'easy_to_hard' needs difficulties or lengths")
    return np.argsort(facts.difficulty, kind="stable")


def _label_interleaved(facts: _Facts) -> Int64s:
    if facts.labels is None:
        raise InvalidInput("order 'label_interleaved' needs labels")
    queues: dict[int, list[int]] = {}
    for pick in _nearest_first(facts).tolist():
        queues.setdefault(int(facts.labels[pick]), []).append(pick)
    # Insertion order is that of each label's most relevant pick, and `max` keeps the first of equals.
    placed_at = dict.fromkeys(queues, -1)
    outwards: list[int] = []
    candidates = list(queues)[:1]
    while candidates:
        label = max(
            candidates,
            key=lambda code: (len(queues[code]), -placed_at[code], facts.relevance[queues[code][0]]),
        )
        outwards.append(queues[label].pop(0))
        placed_at[label] = len(outwards)
        left = [code for code in queues if queues[code]]
        candidates = [code for code in left if code != label] or left
    return np.array(outwards[::-1], dtype=np.int64)


_NAME_TO_ORDER: dict[PromptOrder, Callable[[_Facts], Int64s]] = {
    PromptOrder.NEAREST_LAST: _nearest_last,
    PromptOrder.NEAREST_FIRST: _nearest_first,
    PromptOrder.LABEL_INTERLEAVED: _label_interleaved,
    PromptOrder.RANDOM: _random,
    PromptOrder.EASY_TO_HARD: _easy_to_hard,
    PromptOrder.AS_SELECTED: _as_selected,
}
