"""Features, headers and pools that the tests of the index share."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kshot.arrays import Float32s, unit_rows
from kshot.index.pool import PoolIndex
from kshot.index.segments import Features
from kshot.index.snapshot import Snapshot
from kshot.index.store.example_rows import ExampleHeader, PoolChanges
from kshot.records import Content, Status, content_hash, input_hash

DIMENSION = 8
TOKEN_DIMENSION = 4


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))


def random_unit(rng: np.random.Generator, n: int, d: int) -> Float32s:
    return unit_rows(rng.standard_normal((n, d)))


def vector_of(text: str, d: int = DIMENSION) -> Float32s:
    """Return a sentence vector that depends on the text alone."""
    vector: Float32s = random_unit(_rng(text), 1, d)[0]
    return vector


def tokens_of(text: str) -> Any:
    """Return a token vector per word, float16, and one for an empty text."""
    return np.stack(
        [random_unit(_rng(f"token {word}"), 1, TOKEN_DIMENSION)[0] for word in text.split() or [""]]
    ).astype(np.float16)


def embed(keys: Sequence[int], texts: Sequence[str], *, with_tokens: bool = True) -> Features:
    """Return what an encoder makes of texts; those with more than three words count as truncated."""
    vectors = np.array([vector_of(text) for text in texts], np.float32).reshape(len(texts), DIMENSION)
    truncated = np.array([len(text.split()) > 3 for text in texts], np.bool_)
    if not with_tokens:
        return Features(np.array(keys, np.int64), vectors, truncated)
    tokens = [tokens_of(text) for text in texts]
    none = np.empty((0, TOKEN_DIMENSION), np.float16)
    count = sum(map(len, tokens))
    return Features(
        np.array(keys, np.int64),
        vectors,
        truncated,
        np.concatenate([none, *tokens]),
        np.cumsum([0, *map(len, tokens)], dtype=np.int64),
        np.arange(count, dtype=np.int32),
    )


def header(
    seq: int,
    example_id: str | None = None,
    *,
    inputs: Content | None = None,
    outputs: Content | None = "yes",
    feature_seq: int | None = None,
    status: Status = Status.APPROVED,
    split: str | None = None,
    subject_id: str | None = None,
    group: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> ExampleHeader:
    inputs = f"text {seq}" if inputs is None else inputs
    return ExampleHeader(
        id=f"e{seq}" if example_id is None else example_id,
        seq=seq,
        feature_seq=seq if feature_seq is None else feature_seq,
        status=status,
        split=split,
        subject_id=subject_id,
        group=group,
        content_hash=content_hash(inputs, outputs),
        input_hash=input_hash(inputs),
        has_outputs=outputs is not None,
        short_outputs=outputs,
        metadata=metadata or {},
    )


def no_texts(seqs: Sequence[int]) -> list[str]:
    return [""] * len(seqs)


def published(
    folder: Path,
    headers: Iterable[ExampleHeader],
    texts: Sequence[str] | None = None,
    *,
    label_field: str | None = None,
    with_tokens: bool = True,
    segment_rows: int = 10**9,
) -> Any:
    """Return the `PoolIndex` of a pool at version 1 whose examples have these texts (``text <seq>``)."""
    headers = list(headers)
    texts = [f"text {one.seq}" for one in headers] if texts is None else texts
    seq_to_text = {one.seq: text for one, text in zip(headers, texts, strict=True)}
    index = PoolIndex(folder, label_field, lambda seqs: [seq_to_text.get(seq, "") for seq in seqs])
    keys = [one.feature_seq for one in headers]
    for start in range(0, len(keys), segment_rows):
        part = slice(start, start + segment_rows)
        index.append(embed(keys[part], texts[part], with_tokens=with_tokens))
    index.publish(PoolChanges(1, [], headers))
    return index


def fields_of_row(snapshot: Snapshot, row: int) -> dict[str, Any]:
    """Return every field that a row has a value in."""
    found = {}
    for name, column in snapshot.field_to_column.items():
        code = int(column.codes[row])
        if code >= 0:
            found[name] = column.values[code]
    return found


def ids_of(snapshot: Snapshot, rows: Any) -> list[str]:
    column = snapshot.field_to_column["id"]
    return [column.values[column.codes[row]] for row in rows]


def reopened(folder) -> Any:
    return PoolIndex(folder, None, no_texts)


def live_ids(snapshot):
    return ids_of(snapshot, np.flatnonzero(snapshot.live)) if snapshot.live.any() else []
