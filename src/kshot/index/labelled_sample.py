"""Labelled rows to measure relevance by: drawn from a snapshot, some of them as queries."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Float64s, Int64s
from kshot.errors import InvalidInput
from kshot.index.columns import MISSING
from kshot.index.snapshot import Exclusions, Snapshot
from kshot.selectors.late_interaction import maxsim

MOST_ROWS = 4_000
"""Rows that queries choose from; of a larger pool, a sample."""
TOKENS_EACH = 25
"""Tokens per row and per query for which there is room on average: longer texts make the sample smaller, as
the work grows with the product of both."""
LEAST_QUERIES = 50


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """Queries and the rows that they choose from, each with its label.

    Attributes
    ----------
    queries : int64 array, shape (q,)
        Rows of the snapshot, ascending, no two of equal inputs or of one group.
    rows : int64 array, shape (n,)
        Rows of the snapshot, ascending, no two of equal content.
    query_labels, row_labels : int64 arrays, shapes (q,) and (n,)
        Codes of the column ``label``.
    """

    queries: Int64s
    rows: Int64s
    query_labels: Int64s
    row_labels: Int64s

    @property
    def same_label(self) -> Bools:
        """Whether a row has a query's label, shape (q, n)."""
        same: Bools = self.query_labels[:, None] == self.row_labels
        return same

    @property
    def labels(self) -> int:
        """Number of labels that the rows have."""
        return len(np.unique(self.row_labels))


def draw(
    snapshot: Snapshot, queries: int, k: int, exclude_splits: Collection[str], rng: np.random.Generator
) -> LabelledSample:
    """Draw queries and rows, each label in proportion to its rows.

    Drawn from are the approved examples that have a label and stand in none of ``exclude_splits``; of equal
    content the first. Queries are rows as well unless there are more than `MOST_ROWS`: then the other rows
    suffice to choose from. A label whose rows all have the same inputs or group gives no query, as nothing
    could agree with it.

    Parameters
    ----------
    snapshot : Snapshot
        Of the pool.
    queries : int
        At most as many.
    k : int
        Rows that are looked at per query.
    exclude_splits : collection of str
        Splits that take no part.
    rng : numpy.random.Generator
        Decides what is drawn.

    Raises
    ------
    InvalidInput
        There are too few labels, or too few examples that could be queries.
    """
    rows, labels = _labelled(snapshot, exclude_splits)
    order = proportional_order(labels, rng)
    candidates = order[_distinct(snapshot, rows[order])]
    counts = np.bincount(labels[candidates]) if len(candidates) else np.empty(0, np.int64)
    candidates = candidates[counts[labels[candidates]] > 1]
    _require_enough(int(np.count_nonzero(counts > 1)), len(candidates), k)
    asked = _within_tokens(snapshot, rows, candidates[:queries], queries)
    if len(rows) > MOST_ROWS:
        order = order[~np.isin(order, asked)]
    shown = _within_tokens(snapshot, rows, order[:MOST_ROWS], MOST_ROWS)
    asked, shown = np.sort(asked), np.sort(shown)
    return LabelledSample(rows[asked], rows[shown], labels[asked], labels[shown])


def proportional_order(labels: Int64s, rng: np.random.Generator) -> Int64s:
    """Shuffle n rows so that every beginning holds each label in proportion, but for rounding.

    Parameters
    ----------
    labels : int64 array, shape (n,)
        Codes >= 0.

    Returns
    -------
    int64 array, shape (n,)
        A permutation. A label's rows stand in random order at equal distances, from a random offset on.
    """
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, code, counts = np.unique(labels[by_label], return_inverse=True, return_counts=True)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[code]
    place = (rank + rng.random(len(counts))[code]) / counts[code]
    return by_label[np.argsort(place, kind="stable")]


def allowed_rows(
    snapshot: Snapshot, sample: LabelledSample, query_texts: Sequence[str], row_texts: Sequence[str]
) -> Bools:
    """Tell which rows a query may choose: all but those that would give its label away.

    Left out are the query itself, rows of its group, and rows whose text is the query's but for case and
    white space.

    Returns
    -------
    bool array, shape (q, n)
    """
    text_to_number: dict[str, int] = {}
    query_numbers, row_numbers = (
        np.array(
            [
                text_to_number.setdefault(" ".join(text.casefold().split()), len(text_to_number))
                for text in texts
            ]
        )
        for texts in (query_texts, row_texts)
    )
    related: Bools = (sample.queries[:, None] == sample.rows) | (query_numbers[:, None] == row_numbers)
    group = snapshot.field_to_column.get("group")
    if group is not None:
        query_groups, row_groups = group.codes[sample.queries], group.codes[sample.rows]
        related |= (query_groups[:, None] == row_groups) & (row_groups != MISSING)
    return ~related


def recalls(queries: Sequence[Float32s], tokens: Float32s, offsets: Int64s) -> Float64s:
    """Compute the BSR of many queries in rows of tokens.

    Parameters
    ----------
    queries : sequence of q float32 arrays, shapes (L, d)
        Unit rows; a query may have no token.
    tokens, offsets
        The rows' tokens, as `kshot.selectors.late_interaction.maxsim` takes them.

    Returns
    -------
    float64 array, shape (q, n)
        Zeros for a query without tokens.
    """
    found = np.zeros((len(queries), len(offsets) - 1))
    lengths = np.array([len(query) for query in queries], np.int64)
    present = np.flatnonzero(lengths)
    if len(present):
        weights = np.repeat(1.0 / lengths[present], lengths[present])
        stacked = np.concatenate([query for query in queries if len(query)])
        partial = maxsim(stacked, tokens, offsets, weights)
        starts = np.cumsum(lengths[present]) - lengths[present]
        found[present] = np.add.reduceat(partial.T, starts, axis=0, dtype=np.float64)
    return found


def word_scores(snapshot: Snapshot, sample: LabelledSample, query_texts: Iterable[str]) -> Float32s:
    """Compute BM25 of the queries in the rows, shape (q, n); builds the pool's index if there is none yet."""
    index = snapshot.lexical(current=True)
    if index is None:
        return np.zeros((len(sample.queries), len(sample.rows)), np.float32)
    return np.stack([index.scores(text)[sample.rows].astype(np.float32) for text in query_texts])


def _labelled(snapshot: Snapshot, exclude_splits: Collection[str]) -> tuple[Int64s, Int64s]:
    """Return the rows that take part, ascending, and their labels."""
    eligible = snapshot.eligible(None, Exclusions(splits=exclude_splits))
    column = snapshot.field_to_column.get("label")
    if column is None:
        raise InvalidInput(
            "no example has a label: outputs are labels if they are texts with at most 500 distinct values; "
            "otherwise name where labels stand by the pool's `label_field`"
        )
    mask = eligible.mask & (column.codes != MISSING)
    mask[snapshot.repeats.later(mask)] = False
    rows = np.flatnonzero(mask)
    return rows, column.codes[rows].astype(np.int64)


def _distinct(snapshot: Snapshot, rows: Int64s) -> Int64s:
    """Return the positions of the rows whose inputs and group no earlier one has."""
    kept = np.sort(np.unique(snapshot.hashes.inputs[rows], return_index=True)[1])
    group = snapshot.field_to_column.get("group")
    if group is None:
        return kept
    codes: NDArray[np.int64] = group.codes[rows[kept]].astype(np.int64)
    alone = codes == MISSING
    codes[alone] = MISSING - 1 - np.arange(np.count_nonzero(alone))
    return kept[np.sort(np.unique(codes, return_index=True)[1])]


def _require_enough(labels: int, examples: int, k: int) -> None:
    if labels < 2:
        raise InvalidInput(
            f"labels that two examples of distinct inputs and groups share: {labels}, wanted 2"
        )
    least = max(LEAST_QUERIES, 5 * k)
    if examples < least:
        raise InvalidInput(
            f"examples of distinct inputs and groups that share their label with another: {examples}, wanted "
            f"{least} for k = {k}"
        )


def _within_tokens(snapshot: Snapshot, rows: Int64s, positions: Int64s, room: int) -> Int64s:
    """Return the first positions whose rows have at most `TOKENS_EACH` tokens per place, not too few."""
    if snapshot.tokens is None:
        return positions
    ascending = np.sort(positions)
    lengths = np.empty(len(rows), np.int64)
    lengths[ascending] = snapshot.tokens.lengths(rows[ascending])
    fitting = int(np.searchsorted(np.cumsum(lengths[positions]), room * TOKENS_EACH, side="right"))
    return positions[: max(fitting, LEAST_QUERIES)]
