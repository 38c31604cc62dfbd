"""Examples: validate row by row, commit, hand to the indexer."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from kshot.errors import FieldError, InvalidInput
from kshot.index.store import Store
from kshot.records import Example, NewExample, Status, content_hash
from kshot.schemas.base import Wait
from kshot.schemas.examples import (
    DeleteReply,
    DeleteRequest,
    ExampleIn,
    ExampleInfo,
    ExampleList,
    ExamplePatch,
    NoticedRow,
    RejectedRow,
    UpsertReply,
)
from kshot.schemas.filters import Filter
from kshot.server.services.indexing import Indexer
from kshot.server.services.runtime import PoolRegistry, PoolRuntime
from kshot.server.validation import field_errors

WAIT_INDEXED_S = 600.0
MAX_METADATA_DEPTH = 16


class ExampleService:
    """The routes' view of examples. A row that is refused stops no other."""

    def __init__(self, store: Store, registry: PoolRegistry, indexer: Indexer) -> None:
        self._store = store
        self._registry = registry
        self._indexer = indexer

    async def upsert(
        self,
        pool: str,
        rows: Sequence[tuple[int, Any]],
        *,
        rejected: Sequence[RejectedRow],
        upto_line: int,
        wait: Wait,
    ) -> UpsertReply:
        """Store a batch; returns once it is durable, with ``wait="indexed"`` once it is selectable."""
        runtime = self._registry.get(pool)
        runtime.check_embedder()
        reply = await asyncio.to_thread(self._upsert, runtime, rows, rejected, upto_line)
        if wait == "none":
            return reply
        indexed = await runtime.wait_indexed(reply.version, WAIT_INDEXED_S)
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
            raise InvalidInput(
                "give exactly one of `ids` and `subject_id`", errors=[FieldError("", "ids or subject_id")]
            )
        runtime = self._registry.get(pool)
        reply = await asyncio.to_thread(self._delete, runtime, request)
        await runtime.wait_indexed(reply.version, WAIT_INDEXED_S)
        return reply

    def _upsert(
        self,
        runtime: PoolRuntime,
        rows: Sequence[tuple[int, Any]],
        rejected: Sequence[RejectedRow],
        upto_line: int,
    ) -> UpsertReply:
        refused = list(rejected)
        notices: list[NoticedRow] = []
        id_to_line: dict[str, int] = {}
        id_to_example: dict[str, NewExample] = {}
        for line, value in rows:
            try:
                example = self._read(runtime, value)
            except _Refused as error:
                refused.extend(error.rows(line, value))
                continue
            if example.id in id_to_line:
                message = f"line {line} has the same id and replaced this one"
                notices.append(
                    NoticedRow(
                        line=id_to_line[example.id], id=example.id, code="duplicate_id", message=message
                    )
                )
                del id_to_example[example.id]
            id_to_line[example.id] = line
            id_to_example[example.id] = example
        batch = list(id_to_example.values())
        result = self._store.upsert_examples(runtime.record.id, batch, keeps_features=_keeps_features)
        self._indexer.notify(runtime)
        notices.extend(self._equal_content(runtime, batch, id_to_line))
        return UpsertReply(
            accepted=len(batch),
            created=result.outcomes.count("created"),
            updated=result.outcomes.count("updated"),
            unchanged=result.outcomes.count("unchanged"),
            rejected=sorted(refused, key=lambda row: row.line),
            notices=sorted(notices, key=lambda row: row.line),
            ids=[example.id for example in batch],
            version=result.version,
            indexed=runtime.index.snapshot.version >= result.version,
            upto_line=upto_line,
        )

    def _equal_content(
        self, runtime: PoolRuntime, batch: Sequence[NewExample], id_to_line: dict[str, int]
    ) -> Sequence[NoticedRow]:
        id_to_hash = {example.id: example.content_hash() for example in batch}
        found = self._store.ids_of_equal_content(runtime.record.id, list(id_to_hash.values()))
        notices = []
        for example_id, digest in id_to_hash.items():
            others = [one for one in found.get(digest, []) if one != example_id]
            if others:
                message = f"inputs and outputs equal those of {others[0]!r}"
                notices.append(
                    NoticedRow(
                        line=id_to_line[example_id], id=example_id, code="equal_inputs", message=message
                    )
                )
        return notices

    def _read(self, runtime: PoolRuntime, value: Any) -> NewExample:
        try:
            row = ExampleIn.model_validate(value)
        except ValidationError as error:
            raise _Refused(field_errors(error, ExampleIn, value)) from None
        example = NewExample(
            id=row.id or content_hash(row.inputs, row.outputs),
            inputs=row.inputs,
            outputs=row.outputs,
            metadata=row.metadata,
            split=row.split,
            status=row.status or (Status.DRAFT if row.outputs is None else Status.APPROVED),
            subject_id=row.subject_id,
            group=row.group,
            vector=_vector_bytes(runtime, row.vector),
        )
        _check(runtime, example)
        return example

    def _list(
        self, runtime: PoolRuntime, expression: Filter | None, cursor: str | None, limit: int
    ) -> ExampleList:
        after = _cursor(cursor)
        pool_id = runtime.record.id
        if expression is None:
            page = self._store.list_examples(pool_id, after_seq=after, limit=limit + 1)
            examples, more = page[:limit], len(page) > limit
        else:
            seqs = runtime.index.snapshot.matching_seqs(expression)
            seqs = np.sort(seqs[seqs > after])
            examples = self._store.get_examples_by_seq(pool_id, seqs[:limit].tolist())
            more = len(seqs) > limit
        data = [_to_info(example) for example in examples]
        return ExampleList(data=data, next_cursor=str(examples[-1].seq) if more and examples else None)

    def _patch(self, runtime: PoolRuntime, example_id: str, request: ExamplePatch) -> ExampleInfo:
        changes = {name: getattr(request, name) for name in request.model_fields_set}
        for name in ("inputs", "status"):
            if name in changes and changes[name] is None:
                raise InvalidInput(
                    f"/{name} cannot be null", errors=[FieldError(f"/{name}", "cannot be null")]
                )
        if changes.get("metadata", {}) is None:
            changes["metadata"] = {}
        if "vector" in changes:
            changes["vector"] = _vector_bytes(runtime, request.vector)
        old = self._store.get_example(runtime.record.id, example_id)
        fields = {name: changes.get(name, getattr(old, name)) for name in NewExample.__dataclass_fields__}
        try:
            _check(runtime, NewExample(**fields))
        except _Refused as error:
            raise InvalidInput(
                f"{error.errors[0].pointer} {error.errors[0].message}", errors=error.errors
            ) from None
        example = self._store.patch_example(
            runtime.record.id, example_id, changes, keeps_features=_keeps_features
        )
        self._indexer.notify(runtime)
        return _to_info(example)

    def _delete(self, runtime: PoolRuntime, request: DeleteRequest) -> DeleteReply:
        ids = self._store.delete_examples(runtime.record.id, ids=request.ids, subject_id=request.subject_id)
        self._indexer.notify(runtime)
        version = self._store.get_pool_by_id(runtime.record.id).version
        return DeleteReply(deleted=len(ids), ids=ids, version=version)


class _Refused(Exception):  # noqa: N818  (a row's outcome, caught in this module)
    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__()
        self.errors = errors

    def rows(self, line: int, value: Any) -> list[RejectedRow]:
        found = value.get("id") if isinstance(value, dict) else None
        example_id = found[:256] if isinstance(found, str) else None
        return [
            RejectedRow(line=line, id=example_id, pointer=one.pointer, code=one.code, message=one.message)
            for one in self.errors
        ]


def _keeps_features(old: Example, new: NewExample) -> bool:
    return old.inputs == new.inputs and old.vector == new.vector


def _check(runtime: PoolRuntime, example: NewExample) -> None:
    """Refuse what validates as JSON but could never be served."""
    errors = []
    if example.status == Status.APPROVED and example.outputs is None:
        errors.append(FieldError("/outputs", "is missing; only drafts may come without outputs"))
    if _depth(example.metadata) > MAX_METADATA_DEPTH:
        errors.append(FieldError("/metadata", f"is nested deeper than {MAX_METADATA_DEPTH} levels"))
    if not errors:
        try:
            text = runtime.templates.embed_text(example.inputs)
            runtime.templates.turn(example.inputs, example.outputs, example.metadata)
        except InvalidInput as error:
            errors.append(
                FieldError(
                    "/inputs", f"does not fit the pool's templates: {error.message}", "invalid_template"
                )
            )
        else:
            if not text.strip():
                errors.append(FieldError("/inputs", "gives an empty text to embed"))
    if errors:
        raise _Refused(errors)


def _vector_bytes(runtime: PoolRuntime, vector: Sequence[float] | None) -> bytes | None:
    spec = runtime.settings.embedder
    if spec.type != "external":
        if vector is not None:
            message = f"is not allowed: the pool's embedder is {spec.type}, not external"
            raise _Refused([FieldError("/vector", message)])
        return None
    if vector is None:
        raise _Refused([FieldError("/vector", "is missing; the pool's embedder is external", "missing")])
    if len(vector) != spec.dimension:
        message = f"received {len(vector)} numbers, allowed {spec.dimension}"
        raise _Refused([FieldError("/vector", message, "dimension_mismatch")])
    array = np.array(vector, np.float64)
    norm = float(np.linalg.norm(array))
    if not 0 < norm < np.inf:
        raise _Refused([FieldError("/vector", "has length zero or infinite, so no direction")])
    return (array / norm).astype("<f4").tobytes()


def _depth(value: Any, limit: int = MAX_METADATA_DEPTH + 1) -> int:
    if limit == 0 or not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(part, limit - 1) for part in parts), default=0)


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidInput(
            f"cursor {cursor[:40]!r} is none of this server's", errors=[FieldError("/cursor", "unknown")]
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
    )
