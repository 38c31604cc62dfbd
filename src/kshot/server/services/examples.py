"""Examples: validate row by row, commit, hand to the indexer."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kshot.errors import DimensionMismatch, FieldError, InvalidInput, KshotError
from kshot.index.store import Store
from kshot.records import Example, NewExample, input_hash
from kshot.schemas.base import Existing, Wait
from kshot.schemas.examples import (
    DeleteReply,
    DeleteRequest,
    ExampleInfo,
    ExampleList,
    ExamplePatch,
    NoticedRow,
    RejectedRow,
    UpsertReply,
)
from kshot.schemas.filters import Filter
from kshot.server.services.acceptance import accepted_changes, new_example
from kshot.server.services.indexing import Indexer
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.waiting import Publications
from kshot.server.validation import refusal

WAIT_INDEXED_S = 600.0
WAIT_REMOVED_S = 5.0
"""A deleted example cannot be served any more, as its text is gone; this is for the sets to be full again."""


class ExampleService:
    """The routes' view of examples. A row that is refused stops no other."""

    def __init__(
        self, store: Store, registry: PoolRegistry, indexer: Indexer, publications: Publications
    ) -> None:
        self._store = store
        self._registry = registry
        self._indexer = indexer
        self._publications = publications

    async def upsert(
        self,
        pool: str,
        rows: Sequence[tuple[int, Any]],
        *,
        rejected: Sequence[RejectedRow],
        upto_line: int,
        wait: Wait,
        existing: Existing = "update",
    ) -> UpsertReply:
        """Store a batch; returns once it is durable, with ``wait="indexed"`` once it is selectable."""
        runtime = self._registry.get(pool)
        runtime.check_embedder()
        reply = await asyncio.to_thread(self._upsert, runtime, rows, rejected, upto_line, existing)
        if wait == "none" or reply.indexed:
            return reply
        indexed = await self._publications.reached(runtime.record.id, reply.version, WAIT_INDEXED_S)
        return reply.model_copy(update={"indexed": indexed})

    async def list(
        self,
        pool: str,
        *,
        filter: Filter | None,  # noqa: A002  (the word of the HTTP interface)
        cursor: str | None,
        limit: int,
    ) -> ExampleList:
        """Return a page of examples; with a filter, of those that are indexed and match."""
        runtime = self._registry.get(pool)
        return await asyncio.to_thread(self._list, runtime, filter, cursor, limit)

    async def get(self, pool: str, example_id: str) -> ExampleInfo:
        """Return one example."""
        runtime = self._registry.get(pool)
        return await asyncio.to_thread(
            lambda: _to_info(self._store.get_example(runtime.record.id, example_id))
        )

    async def patch(self, pool: str, example_id: str, request: ExamplePatch) -> ExampleInfo:
        """Change the fields that the request names; null clears one."""
        runtime = self._registry.get(pool)
        return await asyncio.to_thread(self._patch, runtime, example_id, request)

    async def delete(self, pool: str, request: DeleteRequest) -> DeleteReply:
        """Erase examples by ids or by subject; unknown ids are not an error."""
        if (request.ids is None) == (request.subject_id is None):
            raise refusal([FieldError("", "wants exactly one of ids and subject_id")])
        runtime = self._registry.get(pool)
        reply = await asyncio.to_thread(self._delete, runtime, request)
        if runtime.mismatch is None:
            await self._publications.reached(runtime.record.id, reply.version, WAIT_REMOVED_S)
        return reply

    def _upsert(
        self,
        runtime: PoolRuntime,
        rows: Sequence[tuple[int, Any]],
        rejected: Sequence[RejectedRow],
        upto_line: int,
        existing: Existing,
    ) -> UpsertReply:
        refused = list(rejected)
        notices: list[NoticedRow] = []
        id_to_row: dict[str, tuple[int, NewExample]] = {}
        for line, value in rows:
            try:
                example = new_example(runtime, value)
            except (InvalidInput, DimensionMismatch) as error:
                refused.extend(rejected_rows(error, line, value))
                continue
            if (earlier := id_to_row.pop(example.id, None)) is not None:
                message = f"line {line} has the same id and replaced this one"
                notices.append(_noticed(earlier[0], example.id, "duplicate_id", message))
            id_to_row[example.id] = line, example
        batch = [example for _, example in id_to_row.values()]
        result = self._store.upsert_examples(
            runtime.record.id, batch, keeps_features=_keeps_features, keep_existing=existing == "keep"
        )
        self._indexer.notify(runtime.record.name)
        notices.extend(self._equal_inputs(runtime, id_to_row))
        return UpsertReply(
            accepted=len(batch),
            created=result.outcomes.count("created"),
            updated=result.outcomes.count("updated"),
            unchanged=result.outcomes.count("unchanged"),
            rejected=sorted(refused, key=lambda row: row.line),
            notices=sorted(notices, key=lambda row: row.line),
            ids=list(id_to_row),
            version=result.version,
            indexed=self._publications.has(runtime.record.id, result.version),
            upto_line=upto_line,
        )

    def _equal_inputs(
        self, runtime: PoolRuntime, id_to_row: dict[str, tuple[int, NewExample]]
    ) -> Sequence[NoticedRow]:
        """Flag rows whose inputs another example has, too: it will often be chosen beside or instead."""
        id_to_hash = {
            example_id: input_hash(example.inputs) for example_id, (_, example) in id_to_row.items()
        }
        found = self._store.ids_of_equal_inputs(runtime.record.id, list(id_to_hash.values()))
        notices = []
        for example_id, digest in id_to_hash.items():
            other = next((one for one in found.get(digest, ()) if one != example_id), None)
            if other is not None:
                message = f"the inputs equal those of {other!r}"
                notices.append(_noticed(id_to_row[example_id][0], example_id, "equal_inputs", message))
        return notices

    def _list(
        self, runtime: PoolRuntime, expression: Filter | None, cursor: str | None, limit: int
    ) -> ExampleList:
        after = _cursor(cursor)
        pool_id = runtime.record.id
        if expression is None:
            page = self._store.list_examples(pool_id, after_seq=after, limit=limit + 1)
            examples, last = page[:limit], page[limit - 1].seq if len(page) > limit else None
        else:
            matching = runtime.index.snapshot.matching_seqs(expression)
            seqs = np.sort(matching[matching > after])[: limit + 1].tolist()
            # Some may have been erased since the snapshot: the page is shorter then, and not the last one.
            examples = self._store.get_examples_by_seq(pool_id, seqs[:limit])
            last = seqs[limit - 1] if len(seqs) > limit else None
        return ExampleList(
            data=[_to_info(example) for example in examples], next_cursor=None if last is None else str(last)
        )

    def _patch(self, runtime: PoolRuntime, example_id: str, request: ExamplePatch) -> ExampleInfo:
        old = self._store.get_example(runtime.record.id, example_id)
        changes = accepted_changes(runtime, old, request)
        example = self._store.patch_example(
            runtime.record.id, example_id, changes, keeps_features=_keeps_features
        )
        self._indexer.notify(runtime.record.name)
        return _to_info(example)

    def _delete(self, runtime: PoolRuntime, request: DeleteRequest) -> DeleteReply:
        ids = self._store.delete_examples(runtime.record.id, ids=request.ids, subject_id=request.subject_id)
        self._indexer.notify(runtime.record.name)
        version = self._store.get_pool_by_id(runtime.record.id).version
        return DeleteReply(deleted=len(ids), ids=ids, version=version)


def rejected_rows(error: KshotError, line: int, value: Any) -> list[RejectedRow]:
    """Return one row of a reply for each refused field of a row of the request."""
    found = value.get("id") if isinstance(value, dict) else None
    example_id = found[:256] if isinstance(found, str) else None
    return [
        RejectedRow(line=line, id=example_id, pointer=one.pointer, code=one.code, message=one.message)
        for one in error.errors
    ]


def _noticed(line: int, example_id: str, code: Any, message: str) -> NoticedRow:
    return NoticedRow(line=line, id=example_id, code=code, message=message)


def _keeps_features(old: Example, new: NewExample) -> bool:
    # In JSON, as 1 == True in Python; in the given order, as that is the order of the embedded text.
    return json.dumps(old.inputs) == json.dumps(new.inputs) and old.vector == new.vector


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise refusal(
            [FieldError("/cursor", f"received {cursor[:40]!r}, allowed a `next_cursor` of this server")]
        )
    return int(cursor)


def _to_info(example: Example) -> ExampleInfo:
    return ExampleInfo(
        id=example.id,
        inputs=example.inputs,
        outputs=example.outputs,
        metadata=dict(example.metadata),
        split=example.split,
        status=example.status,
        subject_id=example.subject_id,
        group=example.group,
        content_hash=example.content_hash(),
        added_in=example.added_in,
        created_at=example.created_at,
        updated_at=example.updated_at,
        vector=None if example.vector is None else np.frombuffer(example.vector, "<f4").tolist(),
    )
