"""From a snapshot and a query to the `Candidates` that a selector chooses from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Candidates, Feature, Float32s, Float64s, Floats, Int64s, Moments, Signal
from kshot.errors import InvalidInput
from kshot.index.answer_scores import ANSWER_FIELDS
from kshot.index.columns import MISSING
from kshot.index.snapshot import Eligible, Snapshot
from kshot.index.structures import StructureScores
from kshot.index.token_base import TokenBase
from kshot.selectors.base import Selector, as_refining
from kshot.selectors.bm25 import Bm25
from kshot.selectors.ranking import top_k
from kshot.selectors.structure_cover import StructureCover

SMALL_POOL_ROWS = 2_048
"""Up to here every eligible row is a candidate: scoring them all costs less than choosing among them."""
NEAREST_ROWS = 64
"""Rows nearest by sentence vector that join those nearest by token: they may be good all round and best at no
token."""


@dataclass(frozen=True, slots=True)
class QueryFeatures:
    """A query as the encoder sees it.

    Attributes
    ----------
    vector : float32 array, shape (d,), or None
        Unit vector.
    tokens : float32 array, shape (L, d_t), or None
        Unit rows of the word pieces that carry weight; special tokens are left out.
    text : str or None
        For BM25 and structures.
    spans : int32 array, shape (L, 2), or None
        Start and end of each token in the text, in characters; for explanations.
    token_ids : int32 array, shape (L,), or None
        Word pieces; for idf.
    weights : float32 array, shape (L,), or None
        Importance of each token, above 0, with a sum of 1; None if all weigh the same.
    """

    vector: Float32s | None
    tokens: Float32s | None
    text: str | None
    spans: NDArray[np.int32] | None = None
    token_ids: NDArray[np.int32] | None = None
    weights: Float32s | None = None


def shortlist_depth(k: int) -> int:
    """Rows that each source contributes to a shortlist: never close to k.

    With 256 from each of dense and lexical search, the fused method finds 99.9 % of the picks that it makes
    from the whole pool of 20,000 dictionary glosses (k = 8); with 128 it finds 99.0 %.
    """
    return max(256, 16 * k)


def gather(
    snapshot: Snapshot,
    query: QueryFeatures,
    eligible: Eligible,
    selector: Selector,
    k: int,
    difficulty_field: str | None = None,
    *,
    exact: bool = False,
) -> Candidates:
    """Collect the candidates of one query and the features that the selector asks for.

    Pool-wide selectors get every eligible row. The others get the union of the nearest rows by sentence
    vector and, if they read tokens or words, the best rows by BM25: words shared with the query stand in
    for the token-level neighbours. Everything is then scored exactly.

    Where the pool's tokens are sealed, selectors that can refine estimates (`RefiningSelector`) choose the
    rows to score exactly; a pool-wide one then gets the rows nearest to each token of the query, those
    nearest to it as a whole, and those not sealed yet, in place of every row. ``exact`` rules all shortlists
    out. `Candidates.complete` tells whether there was one.

    Selectors that cover structures get those rows that share one with the query and may be chosen, which is
    exact (see `StructureScores.contenders`), and the nearest rows beside them if these are few.

    Difficulty is the number in ``difficulty_field``, as `Snapshot.numbers` gives it, or, without a field, how
    many tokens the inputs have.

    Raises
    ------
    InvalidInput
        The selector asks for difficulty, and no eligible example has a number in the field; or for idf, and
        the query comes without its word pieces.
    """
    needs = selector.needs
    if Feature.IDF in needs:
        query = _with_idf(snapshot, query)
    lexical_scores = _lexical_scores(snapshot, query) if Feature.LEXICAL in needs else None
    structure_scores = _structure_scores(snapshot, query, selector)
    refining = None if exact else as_refining(selector)
    base = None if refining is None else _token_base(snapshot, query, eligible, needs)
    if exact:
        rows = eligible.rows
    elif base is not None and selector.pool_wide:
        rows = _rows_by_tokens(snapshot, query, eligible, base, k)
    else:
        rows = _rows(snapshot, query, eligible, selector, k, lexical_scores, structure_scores)
    vectors = query_vector = None
    if Feature.VECTORS in needs and snapshot.dense is not None and query.vector is not None:
        vectors, query_vector = snapshot.dense.vectors[rows], query.vector
    partial_scores = _partial_scores(snapshot, query, rows, base) if Feature.TOKENS in needs else None
    labels = label_names = None
    if Feature.LABELS in needs:
        column = snapshot.field_to_column.get("label")
        labels = (
            np.full(len(rows), MISSING, np.int64) if column is None else column.codes[rows].astype(np.int64)
        )
        label_names = () if column is None else column.values
    moments: Mapping[Signal, Moments] = {}
    if Feature.MOMENTS in needs:
        moments = _moments(snapshot, query, lexical_scores, with_tokens=Feature.TOKENS in needs)
    # What is estimated by tokens alone needs the cosines of the few rows that are left in the end.
    by_tokens = base is not None and Feature.MOMENTS not in needs
    candidates = Candidates(
        rows=rows,
        relevance=np.zeros(len(rows)) if by_tokens else similarities(snapshot, query, rows),
        query_vector=query_vector,
        vectors=vectors,
        partial_scores=partial_scores,
        bm25=None if lexical_scores is None else lexical_scores[rows],
        structure_scores=None if structure_scores is None else structure_scores.of(rows),
        labels=labels,
        label_names=label_names,
        difficulty=_difficulty(snapshot, rows, difficulty_field) if Feature.DIFFICULTY in needs else None,
        moments=moments,
        complete=len(rows) == len(eligible.rows)
        or structure_scores is not None
        or _holds_the_best(snapshot, selector, eligible, k, lexical_scores),
    )
    if base is None or refining is None:
        return candidates

    def score(indices: Int64s) -> Floats:
        scores = _partial_scores(snapshot, query, rows[indices])
        assert scores is not None
        return scores

    chosen, scores = refining.refine(candidates, k, score)
    refined = candidates.take(chosen)
    relevance = similarities(snapshot, query, refined.rows)
    return replace(refined, partial_scores=scores, relevance=relevance, complete=False)


def similarities(snapshot: Snapshot, query: QueryFeatures, rows: Int64s) -> Float64s:
    """Cosine of rows to the query; zeros where there are no vectors."""
    if snapshot.dense is None or query.vector is None:
        return np.zeros(len(rows), np.float64)
    whole = len(rows) == len(snapshot)
    return snapshot.dense.similarities(query.vector, None if whole else rows).astype(np.float64)


def prepare(snapshot: Snapshot) -> None:
    """Build the BM25 index that proposes candidates by words, where one is wanted and out of date.

    Wanted: the pool has token vectors and is too large for every row to be a candidate. Out of date: the
    newest index lacks more than a tenth of the live rows. O(words of the pool).
    """
    if snapshot.tokens is None or len(snapshot.approved_rows) <= SMALL_POOL_ROWS:
        return
    newest = snapshot.lexical(current=False)
    if newest is None or np.count_nonzero(newest.live) < 0.9 * snapshot.examples:
        snapshot.lexical(current=True)


def _rows(
    snapshot: Snapshot,
    query: QueryFeatures,
    eligible: Eligible,
    selector: Selector,
    k: int,
    lexical_scores: Float64s | None,
    structure_scores: StructureScores | None,
) -> Int64s:
    if selector.pool_wide or (structure_scores is None and len(eligible.rows) <= SMALL_POOL_ROWS):
        return eligible.rows
    # By relevance alone nothing beyond the nearest can be chosen; the rest is room for runners-up.
    enough = 2 * k + 16
    depth = shortlist_depth(k) if selector.needs else enough
    sources: list[Int64s] = []
    if structure_scores is not None:
        contenders = structure_scores.contenders(eligible.rows, depth)
        if len(contenders) >= enough:
            return contenders
        sources.append(contenders)
    if lexical_scores is None and Feature.TOKENS in selector.needs and query.text is not None:
        newest = snapshot.lexical(current=False)
        lexical_scores = None if newest is None else newest.scores(query.text)
    if lexical_scores is not None:
        sources.append(_best_by_words(lexical_scores, eligible, depth))
    if snapshot.dense is not None and query.vector is not None:
        sources.append(snapshot.dense.search(query.vector, depth, eligible.mask, eligible.rows).rows)
    elif sources:
        # Words alone may propose too few. The first rows are what the whole pool would give among equals.
        sources.append(eligible.rows[:depth])
    return np.unique(np.concatenate(sources)) if sources else eligible.rows


def _token_base(
    snapshot: Snapshot, query: QueryFeatures, eligible: Eligible, needs: frozenset[Feature]
) -> TokenBase | None:
    """Return what estimates token scores, if they are wanted and estimates save work."""
    if (
        snapshot.tokens is None
        or query.tokens is None
        or not len(query.tokens)
        or Feature.TOKENS not in needs
        # Up to here, to estimate first and score the best exactly takes as long as to score all.
        or len(eligible.rows) <= SMALL_POOL_ROWS // 2
    ):
        return None
    return snapshot.tokens.base


def _holds_the_best(
    snapshot: Snapshot, selector: Selector, eligible: Eligible, k: int, lexical_scores: Float64s | None
) -> bool:
    """Tell whether a shortlist has every row that may be chosen by relevance alone, or by words alone.

    Every row's BM25 is known. Where too few rows share a word with the query, the nearest follow.
    """
    by_words = isinstance(selector, Bm25)
    if by_words and lexical_scores is not None and np.count_nonzero(lexical_scores[eligible.rows]) >= k:
        return True
    return (by_words or not selector.needs) and snapshot.dense is not None and snapshot.dense.base is None


def _rows_by_tokens(
    snapshot: Snapshot, query: QueryFeatures, eligible: Eligible, base: TokenBase, k: int
) -> Int64s:
    """Propose rows for a method that would read every row's tokens."""
    assert query.tokens is not None
    sealed = int(np.searchsorted(eligible.rows, len(base)))
    sources = [eligible.rows[sealed:]]
    if sealed:
        mask = None if sealed == len(base) else eligible.mask[: len(base)]
        sources.append(base.propose(query.tokens, mask, k))
    depth = max(NEAREST_ROWS, 2 * k)
    if snapshot.dense is not None and query.vector is not None:
        sources.append(snapshot.dense.search(query.vector, depth, eligible.mask, eligible.rows).rows)
    else:
        # So that there are k in any case.
        sources.append(eligible.rows[:depth])
    return np.unique(np.concatenate(sources))


def _best_by_words(scores: Float64s, eligible: Eligible, depth: int) -> Int64s:
    """Return the ``depth`` eligible rows with the highest positive score; fewer if fewer share a word.

    The scores may come from another snapshot: rows are the same there, though not as many.
    """
    matching = np.flatnonzero(scores[: len(eligible.mask)])
    matching = matching[eligible.mask[matching]]
    return matching if len(matching) <= depth else matching[top_k(scores[matching], depth)]


def _structure_scores(snapshot: Snapshot, query: QueryFeatures, selector: Selector) -> StructureScores | None:
    if not isinstance(selector, StructureCover):
        return None
    return snapshot.structures(selector).scores(query.text or "", selector.weighting)


def _lexical_scores(snapshot: Snapshot, query: QueryFeatures) -> Float64s:
    index = snapshot.lexical(current=True)
    if index is None or query.text is None:
        return np.zeros(len(snapshot), np.float64)
    return index.scores(query.text)


def _difficulty(snapshot: Snapshot, rows: Int64s, field: str | None) -> Float64s | None:
    if field is None:
        return None if snapshot.tokens is None else snapshot.tokens.lengths(rows).astype(np.float64)
    numbers = snapshot.numbers(field)[rows]
    if len(rows) and np.isnan(numbers).all():
        if field in ANSWER_FIELDS:
            raise InvalidInput(
                f"no eligible example was scored for {field!r}, the pool's `difficulty_field`; "
                "`kshot pool difficulty` and POST /v1/pools/{pool}/difficulty ask the scorer"
            )
        raise InvalidInput(f"no eligible example has a number in {field!r}, the pool's `difficulty_field`")
    return numbers


def _with_idf(snapshot: Snapshot, query: QueryFeatures) -> QueryFeatures:
    """Weigh the tokens by their rarity in the pool; those that every row has go."""
    if query.tokens is None:
        return query
    if query.token_ids is None:
        raise InvalidInput("idf needs the word pieces of the query, and it comes without")
    weights = snapshot.token_frequencies.weights(query.token_ids)
    kept = weights > 0
    return replace(
        query,
        tokens=query.tokens[kept],
        token_ids=query.token_ids[kept],
        spans=None if query.spans is None else query.spans[kept],
        weights=weights[kept],
    )


def token_weights(query: QueryFeatures) -> Float32s:
    """Return the importance of each token of a query, shape (L,); weights sum to 1."""
    if query.weights is not None:
        return query.weights
    count = 0 if query.tokens is None else len(query.tokens)
    return np.full(count, 1.0 / count if count else 0.0, np.float32)


def _partial_scores(
    snapshot: Snapshot, query: QueryFeatures, rows: Int64s, base: TokenBase | None = None
) -> Floats | None:
    """Score rows by the tokens of the query; if a base is given, its rows are estimated."""
    if snapshot.tokens is None or query.tokens is None:
        return None
    weights = token_weights(query)
    if base is None:
        return snapshot.tokens.partial_scores(query.tokens, weights, rows)
    sealed = int(np.searchsorted(rows, len(base)))
    scores = np.empty((len(query.tokens), len(rows)), np.float32).T
    scores[:sealed] = base.estimate(query.tokens, weights, rows[:sealed])
    scores[sealed:] = snapshot.tokens.partial_scores(query.tokens, weights, rows[sealed:])
    return scores


def _moments(
    snapshot: Snapshot,
    query: QueryFeatures,
    lexical_scores: Float64s | None,
    *,
    with_tokens: bool,
) -> dict[Signal, Moments]:
    """Mean and standard deviation of each signal over the pool's fixed sample."""
    sample = snapshot.sample
    if sample is None:
        return {}
    signals: dict[Signal, Float64s] = {}
    if query.vector is not None:
        signals[Signal.SIMILARITY] = (sample.vectors @ query.vector).astype(np.float64)
    if lexical_scores is not None:
        signals[Signal.BM25] = lexical_scores[sample.rows]
    moments = {name: Moments(float(values.mean()), float(values.std())) for name, values in signals.items()}
    if with_tokens and query.tokens is not None:
        bsr = sample.bsr_moments(query.tokens, token_weights(query))
        if bsr is not None:
            moments[Signal.BSR] = bsr
    return moments
