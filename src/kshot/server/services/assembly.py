"""From chosen rows to demonstrations: texts, lengths, packing, prompt order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Float64s, Int64s
from kshot.formatting import Turn, content_text
from kshot.index.answer_scores import ANSWER_FIELDS
from kshot.index.columns import MISSING, as_number, flatten
from kshot.index.output_lengths import OUTPUT_LENGTH
from kshot.index.snapshot import Snapshot
from kshot.records import Example
from kshot.schemas.pools import OrderName, PackingName
from kshot.schemas.selections import Demonstration, RandomOrder, RenderedTurn, SetStatistics
from kshot.selectors import PromptOrder, pack, prompt_order
from kshot.server.services.runtime import PoolRuntime

_SHOWN_LABELS = 500


@dataclass(frozen=True, slots=True)
class Chosen:
    """One pick with its text.

    ``tokens`` is its length as it stands in the prompt, the separator included.
    """

    row: int
    example: Example
    turn: Turn
    tokens: int
    score: float
    gain: float
    similarity: float | None
    label: str | None
    is_stable: bool = False


def measured(runtime: PoolRuntime, turns: Sequence[Turn]) -> list[int]:
    """Count the tokens of each demonstration, its separator included."""
    separator = runtime.templates.separator
    return [int(count) for count in runtime.tokenizer.count([turn.text + separator for turn in turns])]


def fitted(
    runtime: PoolRuntime,
    stable: Sequence[Chosen],
    dynamic: Sequence[Chosen],
    policy: PackingName,
    max_tokens: int | None,
    arrange: Callable[[Sequence[Chosen]], list[Chosen]],
) -> tuple[list[Chosen], list[Chosen], list[Chosen]]:
    """Fit the picks into the budget, the stable part first, and arrange the dynamic part for the prompt.

    Parameters
    ----------
    stable, dynamic : sequence of Chosen
        In pick order.
    policy : str
        For the dynamic part; the stable part is cut at the first that does not fit.
    max_tokens : int or None
    arrange : callable
        Puts the dynamic picks into prompt order.

    Returns
    -------
    stable, dynamic, dropped
        The text of what is kept, joined in prompt order, is counted once more, since a tokenizer may need
        more for the whole than for the parts; then the last picks are dropped until it fits.
    """
    if max_tokens is None:
        return list(stable), arrange(dynamic), []
    core = [stable[i] for i in pack("prefix_stop", [one.tokens for one in stable], max_tokens).tolist()]
    left = max_tokens - sum(one.tokens for one in core)
    relevance = np.array([one.score for one in dynamic], np.float64)
    kept = pack(policy, [one.tokens for one in dynamic], left, relevance=relevance).tolist()
    tail = [dynamic[i] for i in kept]
    arranged = arrange(tail)
    while (core or tail) and _count_together(runtime, [*core, *arranged]) > max_tokens:
        (tail or core).pop()
        arranged = arrange(tail)
    kept_rows = {one.row for one in (*core, *tail)}
    return core, arranged, [one for one in (*stable, *dynamic) if one.row not in kept_rows]


def _count_together(runtime: PoolRuntime, chosen: Sequence[Chosen]) -> int:
    text = runtime.templates.separator.join(one.turn.text for one in chosen)
    return int(runtime.tokenizer.count([text])[0])


def ordered(
    runtime: PoolRuntime,
    snapshot: Snapshot,
    picks: Sequence[Chosen],
    order: OrderName | RandomOrder,
    seed: int,
) -> list[Chosen]:
    """Arrange the dynamic picks for the prompt."""
    if not picks:
        return []
    name = PromptOrder(order.type if isinstance(order, RandomOrder) else order)
    # Each order gets what it reads and no more: this stands on the way of every request.
    labels = difficulty = lengths = rng = None
    if name is PromptOrder.LABEL_INTERLEAVED:
        labels = _label_codes(snapshot, np.array([one.row for one in picks], np.int64))
    elif name is PromptOrder.EASY_TO_HARD:
        difficulty = _difficulty(snapshot, runtime.settings.difficulty_field, picks)
        lengths = np.array([one.tokens for one in picks], np.int64)
    elif name is PromptOrder.RANDOM:
        own_seed = order.seed if isinstance(order, RandomOrder) else seed
        rng = np.random.Generator(np.random.PCG64(own_seed))
    scores = np.array([one.score for one in picks], np.float64)
    places = prompt_order(name, scores, labels=labels, difficulty=difficulty, lengths=lengths, rng=rng)
    return [picks[place] for place in places.tolist()]


def demonstrations(chosen: Sequence[Chosen], *, rendered: bool) -> list[Demonstration]:
    """Put picks into their wire form, in the order given."""
    return [
        Demonstration(
            id=one.example.id,
            rank=rank,
            part="stable" if one.is_stable else "dynamic",
            inputs=one.example.inputs,
            outputs=one.example.outputs,
            metadata=dict(one.example.metadata),
            score=one.score,
            gain=one.gain,
            similarity=one.similarity,
            tokens=one.tokens,
            label=one.label,
            rendered=RenderedTurn(input=one.turn.input, output=one.turn.output, text=one.turn.text)
            if rendered
            else None,
        )
        for rank, one in enumerate(chosen)
    ]


def statistics(snapshot: Snapshot, chosen: Sequence[Chosen]) -> SetStatistics:
    """Describe the set as a whole."""
    labels: dict[str, int] = {}
    for one in chosen:
        if one.label is not None:
            labels[one.label] = labels.get(one.label, 0) + 1
    k = len(chosen)
    mean_pairwise = None
    if snapshot.dense is not None and k > 1:
        vectors = snapshot.dense.vectors[[one.row for one in chosen]].astype(np.float64)
        total = vectors.sum(axis=0)
        # |sum of unit vectors|^2 = k + twice the sum over pairs.
        mean_pairwise = float((total @ total - np.einsum("ij,ij->", vectors, vectors)) / (k * (k - 1)))
    return SetStatistics(mean_pairwise=mean_pairwise, labels=labels)


def shown_labels(snapshot: Snapshot) -> list[str]:
    """Return the most frequent labels of the pool, in alphabetical order, as instructions name them."""
    column = snapshot.field_to_column.get("label")
    labels = [] if column is None else [str(label) for label in column.counts(snapshot.live)]
    return sorted(labels[:_SHOWN_LABELS])


def label_of(snapshot: Snapshot, row: int) -> str | None:
    """Return a row's label."""
    column = snapshot.field_to_column.get("label")
    if column is None or column.codes[row] == MISSING:
        return None
    return str(column.values[column.codes[row]])


def _label_codes(snapshot: Snapshot, rows: Int64s) -> Int64s:
    column = snapshot.field_to_column.get("label")
    return np.full(len(rows), MISSING, np.int64) if column is None else column.codes[rows].astype(np.int64)


def _difficulty(snapshot: Snapshot, field: str | None, picks: Sequence[Chosen]) -> Float64s | None:
    """Read the difficulties; None unless every pick has one."""
    if field is None:
        return None
    if field in ANSWER_FIELDS:
        found = snapshot.numbers(field)[[one.row for one in picks]]
        return None if np.isnan(found).any() else found
    if field == OUTPUT_LENGTH:
        return np.array([len(content_text(one.example.outputs)) for one in picks], np.float64)
    values = [_number(one.example.metadata, field) for one in picks]
    return None if None in values else np.array(values, np.float64)


def _number(metadata: Mapping[str, Any], field: str) -> float | None:
    return as_number(dict(flatten(metadata)).get(field))
