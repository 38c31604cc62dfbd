"""How often the nearest examples carry a query's label, for each token layer and weighting of a pool."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s, Signal
from kshot.clients.embedders.base import Embedder
from kshot.index.labelled_sample import LabelledSample, allowed_rows, draw, recalls, word_scores
from kshot.index.store import Store
from kshot.index.tokens import TokenView, decode
from kshot.schemas.tuning import TuneRequest
from kshot.selectors.fused import Fused
from kshot.selectors.tuning import Agreements, Trial, deal, standardised_rows, weight_grid
from kshot.server.selectors_schema import build_selector
from kshot.server.services.progress import Progress
from kshot.server.services.runtime import PoolRuntime

ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token layer, None where the pool has no token vectors, and a weight for each signal of the pool."""

    token_layer: int | None
    weights: dict[Signal, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What `measure` found.

    Attributes
    ----------
    candidates : list of Candidate
        In order of preference: the present settings, then what keeps the token layer, then the rest.
    keeping_layer : int
        How many of the first candidates keep the token layer.
    agreements : Agreements
        Of the candidates.
    """

    pool_version: int
    sample: LabelledSample
    trial: Trial
    candidates: list[Candidate]
    keeping_layer: int
    agreements: Agreements


def measure(
    store: Store,
    runtime: PoolRuntime,
    layers: Sequence[int],
    request: TuneRequest,
    progress: Progress,
) -> Measured:
    """Measure the agreement of every candidate on one sample of a pool's labelled examples.

    Parameters
    ----------
    store : Store
        Where the texts are.
    runtime : PoolRuntime
        The pool.
    layers : sequence of int
        Token layers besides the present one.
    request : TuneRequest
        Sizes, splits and seed.
    progress : Progress
        Told of the phase ``scoring`` after every `ROWS_AT_ONCE` rows.

    Raises
    ------
    InvalidInput
        The pool has too few labels or labelled examples.
    KshotError
        The embedder does not work.
    """
    rng = np.random.Generator(np.random.PCG64(request.seed))
    snapshot = runtime.index.snapshot
    sample = draw(snapshot, request.queries, request.k, request.exclude_splits, rng)
    query_texts, row_texts = (
        _texts(store, runtime, snapshot.seqs[rows].tolist()) for rows in (sample.queries, sample.rows)
    )
    allowed = allowed_rows(snapshot, sample, query_texts, row_texts)
    trial = Trial(sample.same_label, allowed, deal(len(sample.queries), rng), request.k)

    assert snapshot.dense is not None, "rows have vectors"
    vectors = snapshot.dense.vectors
    similarity = standardised_rows(vectors[sample.queries] @ vectors[sample.rows].T, allowed)
    bm25 = standardised_rows(word_scores(snapshot, sample, query_texts), allowed)
    if runtime.token_layer is None or snapshot.tokens is None:
        signals = [Signal.SIMILARITY, Signal.BM25]
        weights = _weightings(runtime, signals)
        progress(0, len(sample.rows), "scoring")
        agreements = trial.agreements([similarity, bm25], weights)
        candidates = _candidates(None, signals, weights)
        return Measured(snapshot.version, sample, trial, candidates, len(candidates), agreements)

    signals = [Signal.SIMILARITY, Signal.BSR, Signal.BM25]
    weights = _weightings(runtime, signals)
    found: list[Candidate] = []
    parts: list[Agreements] = []
    texts = _Texts(query_texts, row_texts)
    scored = _scored(runtime, snapshot.tokens, sample.rows, texts, layers, progress)
    for layer, values in zip((runtime.token_layer, *layers), scored, strict=True):
        # Without BSR a layer changes nothing.
        compared = weights if not parts else weights[weights[:, 1] > 0]
        parts.append(trial.agreements([similarity, standardised_rows(values, allowed), bm25], compared))
        found += _candidates(layer, signals, compared)
        progress(len(sample.rows), len(sample.rows), "scoring")
    return Measured(snapshot.version, sample, trial, found, len(weights), Agreements.joined(parts))


@dataclass(frozen=True, slots=True)
class _Texts:
    queries: Sequence[str]
    rows: Sequence[str]


def _scored(
    runtime: PoolRuntime,
    tokens: TokenView,
    rows: Int64s,
    texts: _Texts,
    layers: Sequence[int],
    progress: Progress,
) -> list[Float32s]:
    """Return every query's BSR in every row, (q, n), at the present layer and at others.

    The rows' tokens at the present layer come from the index, those at others from one pass of the embedder.
    """
    assert runtime.token_layer is not None
    queries = _query_tokens(runtime.embedder, texts.queries, [runtime.token_layer, *layers])
    found = [np.empty((len(texts.queries), len(rows)), np.float32) for _ in queries]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        progress(start, len(rows), "scoring")
        place = slice(start, start + ROWS_AT_ONCE)
        stored = [tokens.take(rows[place])]
        if layers:
            for features in runtime.embedder.encode_layers(texts.rows[place], layers):
                assert features.tokens is not None
                assert features.offsets is not None
                # As exact as if it were stored.
                stored.append((decode(features.tokens.astype(np.float16)), features.offsets))
        for target, asked, (vectors, offsets) in zip(found, queries, stored, strict=True):
            target[:, place] = recalls(asked, vectors, offsets)
    return found


def _query_tokens(embedder: Embedder, texts: Sequence[str], layers: Sequence[int]) -> list[list[Float32s]]:
    """Return the tokens that carry weight, per layer and text."""
    found: list[list[Float32s]] = [[] for _ in layers]
    for start in range(0, len(texts), ROWS_AT_ONCE):
        some = texts[start : start + ROWS_AT_ONCE]
        for of_layer, features in zip(found, embedder.encode_layers(some, layers), strict=True):
            for i in range(len(some)):
                one = features.one(i)
                assert one.tokens is not None
                assert one.special is not None
                of_layer.append(one.tokens[~one.special])
    return found


def _weightings(runtime: PoolRuntime, signals: Sequence[Signal]) -> Float64s:
    """List the weights to compare: the present ones, the default ones, the grid; no two of one ranking."""
    present = build_selector("fused", runtime.settings.select.params.get("fused", {}))
    known = [[getattr(selector, signal) for signal in signals] for selector in (present, Fused())]
    weights = np.concatenate([known, weight_grid(len(signals))])
    # A pool without token vectors may have all its weight on them.
    largest = np.maximum(weights.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    _, first = np.unique(weights / largest, axis=0, return_index=True)
    return weights[np.sort(first)]


def _candidates(layer: int | None, signals: Sequence[Signal], weights: Float64s) -> list[Candidate]:
    return [Candidate(layer, dict(zip(signals, row, strict=True))) for row in weights.tolist()]


def _texts(store: Store, runtime: PoolRuntime, seqs: Sequence[int]) -> list[str]:
    """Return the texts that were embedded; an empty one for an example erased meanwhile."""
    seq_to_text = {
        example.seq: runtime.templates.embed_text(example.inputs)
        for example in store.get_examples_by_seq(runtime.record.id, seqs)
    }
    return [seq_to_text.get(seq, "") for seq in seqs]
