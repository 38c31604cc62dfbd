"""Why these: the method's own facts, what came close, and which parts of the query each one covers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from kshot.arrays import Bools
from kshot.index.candidates import QueryFeatures, token_weights
from kshot.index.snapshot import Eligible, Snapshot
from kshot.index.store import Store
from kshot.index.tokens import TokenView
from kshot.schemas.coverage import Coverage, DemonstrationCoverage, QueryToken, TextSpan
from kshot.schemas.selections import Adaptive, Explanation, Rejected
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import RUNNERS_UP, Choice, Method
from kshot.server.services.runtime import PoolRuntime

COVERED_FROM = 0.6
"""Cosine from which a token counts as covered.

By MiniLM's token layer 4, on questions, intents and dictionary glosses: 98 % of the query's tokens reach it
where one of the eight nearest examples has the same word, 9 to 35 % where eight random ones do not.
"""
_DECIMALS = 3


def explain(
    store: Store,
    runtime: PoolRuntime,
    snapshot: Snapshot,
    query: QueryFeatures,
    method: Method,
    allowed: Eligible,
    choice: Choice,
    chosen: Sequence[Chosen],
    left_out: Sequence[Rejected],
    k: int,
) -> Explanation:
    """Describe a choice.

    Parameters
    ----------
    query : QueryFeatures
        Of the query itself; the coverage is of its tokens.
    allowed : Eligible
        What filter and exclusions left.
    chosen : sequence of Chosen
        The demonstrations in prompt order.
    left_out : sequence of Rejected
        The picks that are not among them.
    k : int
        Demonstrations wanted.
    """
    rejected = [*left_out, *_runners_up(store, runtime, snapshot, method, choice, k)]
    return Explanation(
        method=method.name,
        params=parameters(method),
        diagnostics=dict(choice.diagnostics),
        filter_matched=allowed.filter_matched,
        excluded=allowed.excluded,
        rejected=rejected,
        coverage=coverage(
            snapshot.tokens, query, [one.row for one in chosen], [one.example.id for one in chosen]
        ),
    )


def left_out_reasons(
    dropped: Sequence[Chosen], cut: Sequence[Chosen], adaptive: Adaptive | None
) -> list[Rejected]:
    """Say of the picks that are not shown why: no room in the budget, or not worth their tokens."""
    reasons = [(one, "max_tokens: picked, but it did not fit") for one in dropped]
    least = 0.0 if adaptive is None else adaptive.min_gain_per_token
    for one in cut:
        rate = one.gain / max(one.tokens, 1)
        if rate < least:
            reasons.append((one, f"adaptive: gains {rate:.3g} per token, less than {least:.3g}"))
        else:
            reasons.append((one, "adaptive: picked after one that is not worth its tokens"))
    return [Rejected(id=one.example.id, score=one.score, reason=reason) for one, reason in reasons]


def _runners_up(
    store: Store, runtime: PoolRuntime, snapshot: Snapshot, method: Method, choice: Choice, k: int
) -> list[Rejected]:
    rows = {one.row for one in choice.runners_up} | {one.like[0] for one in choice.runners_up if one.like}
    seqs = [int(snapshot.seqs[row]) for row in rows]
    seq_to_id = {one.seq: one.id for one in store.get_examples_by_seq(runtime.record.id, seqs)}
    found = []
    for one in choice.runners_up:
        example_id = seq_to_id.get(int(snapshot.seqs[one.row]))
        if example_id is None:  # erased since
            continue
        reason = f"k: {method.name} picks it when {k + RUNNERS_UP} are wanted"
        if one.like is not None:
            like = seq_to_id.get(int(snapshot.seqs[one.like[0]]))
            reason = f"distinct: its cosine to {like!r} is {one.like[1]:.3f}"
        elif one.too_long:
            reason = "max_tokens: others cover more of the query for their tokens"
        found.append(Rejected(id=example_id, score=one.score, reason=reason))
    return found


def parameters(method: Method) -> dict[str, Any]:
    """Return every hyper-parameter that the method ran with."""
    selector: Any = method.selector  # a dataclass by contract
    return asdict(selector)


def coverage(
    tokens: TokenView | None, query: QueryFeatures, rows: Sequence[int], ids: Sequence[str]
) -> Coverage | None:
    """Match each token of the query with its best match in each demonstration.

    Tokens stay as the encoder reads them, pieces of words included: these are what methods compare, and each
    has a match of its own. Everything is told of the rounded scores, so that what is said can be seen in
    them.

    Parameters
    ----------
    tokens : TokenView or None
        Of the pool.
    query : QueryFeatures
    rows : sequence of int
        Of the demonstrations in prompt order; all different.
    ids : sequence of str
        Theirs.

    Returns
    -------
    Coverage or None
        None without demonstrations, or where query or pool have no token vectors.

    Notes
    -----
    O(tokens of the demonstrations x tokens of the query x dimensions). Of equally good demonstrations the
    first counts as the best.
    """
    if not rows or tokens is None or query.tokens is None or query.spans is None or query.text is None:
        return None
    places = np.array(rows, np.int64)
    ascending = np.argsort(places)
    scores = np.empty((len(places), len(query.tokens)))
    scores[ascending] = tokens.partial_scores(
        query.tokens, np.ones(len(query.tokens), np.float32), places[ascending]
    )
    # The sum turns -0.0 into 0.0.
    scores = scores.round(_DECIMALS) + 0.0
    best = scores.argmax(axis=0)
    similarity = scores.max(axis=0)
    covered = similarity >= COVERED_FROM
    weights = token_weights(query).astype(np.float64)
    columns = (weights.round(6), best, similarity, covered)
    return Coverage(
        text=query.text,
        covered_from=COVERED_FROM,
        covered_share=round(float(weights[covered].sum()), _DECIMALS),
        tokens=[
            QueryToken(
                start=start,
                end=end,
                text=query.text[start:end],
                weight=weight,
                best_id=ids[place],
                similarity=highest,
                covered=is_covered,
            )
            for (start, end), weight, place, highest, is_covered in zip(
                query.spans.tolist(), *(column.tolist() for column in columns), strict=True
            )
        ],
        demonstrations=[
            DemonstrationCoverage(
                id=example_id,
                scores=scores[place].tolist(),
                spans=_joined(query.text, query.spans.tolist(), covered & (best == place)),
            )
            for place, example_id in enumerate(ids)
        ],
    )


def _joined(text: str, spans: Sequence[Sequence[int]], wanted: Bools) -> list[TextSpan]:
    """Return the spans of the wanted tokens, those of neighbouring tokens as one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]])))
    found = []
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        start, end = spans[first][0], spans[stop - 1][1]
        found.append(TextSpan(start=start, end=end, text=text[start:end]))
    return found
