"""Answers of annotators: drafts become approved examples, and nothing is lost by importing twice."""

import asyncio
from collections.abc import Mapping, Sequence

from kshot.errors import FieldError, InvalidInput
from kshot.index.store import Store
from kshot.records import Example, NewExample, Status, canonical_json
from kshot.schemas.annotations import AnnotationReply, AnnotationRequest, AnswerIn, OnConflict
from kshot.schemas.base import Wait
from kshot.schemas.examples import RejectedRow
from kshot.server.services.acceptance import annotated
from kshot.server.services.examples import WAIT_INDEXED_S, rejected_rows
from kshot.server.services.indexing import Indexer
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.waiting import Publications
from kshot.server.validation import describe, refusal, validated


class AnnotationService:
    """The routes' view of annotation."""

    def __init__(
        self, store: Store, registry: PoolRegistry, indexer: Indexer, publications: Publications
    ) -> None:
        self._store = store
        self._registry = registry
        self._indexer = indexer
        self._publications = publications

    async def annotate(self, pool: str, request: AnnotationRequest, wait: Wait) -> AnnotationReply:
        """Write answers as outputs; returns once they are durable, all of the batch or none."""
        runtime = self._registry.get(pool)
        reply = await asyncio.to_thread(self._annotate, runtime, request)
        if wait == "none" or reply.indexed:
            return reply
        indexed = await self._publications.reached(runtime.record.id, reply.version, WAIT_INDEXED_S)
        return reply.model_copy(update={"indexed": indexed})

    def _annotate(self, runtime: PoolRuntime, request: AnnotationRequest) -> AnnotationReply:
        answers: list[tuple[int, AnswerIn]] = []
        rejected: list[RejectedRow] = []
        for line, value in enumerate(request.answers, start=1):
            try:
                answers.append((line, validated(AnswerIn, value)))
            except InvalidInput as error:
                rejected += rejected_rows(error, line, value)
        batch = _Batch(runtime, answers, request.on_conflict)
        ids = list(dict.fromkeys(answer.id for _, answer in answers))
        # Inputs stay as they are, so the vectors do.
        revise = batch.rehearse if request.dry_run else batch.revise
        version = self._store.revise_examples(runtime.record.id, ids, revise, keeps_features=lambda *_: True)
        self._indexer.notify(runtime.record.name)
        return AnnotationReply(
            approved=batch.outcomes.count("approved"),
            replaced=batch.outcomes.count("replaced"),
            unchanged=batch.outcomes.count("unchanged"),
            rejected=sorted([*rejected, *batch.rejected], key=lambda row: row.line),
            version=version,
            indexed=self._publications.has(runtime.record.id, version),
        )


class _Batch:
    """Applies answers one after the other, so that it does not matter how a file is cut into batches."""

    def __init__(
        self, runtime: PoolRuntime, answers: Sequence[tuple[int, AnswerIn]], on_conflict: OnConflict
    ) -> None:
        self._runtime = runtime
        self._answers = answers
        self._on_conflict = on_conflict
        self.outcomes: list[str] = []
        self.rejected: list[RejectedRow] = []

    def revise(self, id_to_example: Mapping[str, Example]) -> list[NewExample]:
        """Return the examples as they are after all answers; called with the store's lock held."""
        id_to_revised: dict[str, NewExample] = {}
        for line, answer in self._answers:
            present = id_to_revised.get(answer.id) or id_to_example.get(answer.id)
            try:
                revised = self._revised(present, answer)
            except InvalidInput as error:
                self.rejected += rejected_rows(error, line, {"id": answer.id})
            else:
                id_to_revised[answer.id] = revised
        return list(id_to_revised.values())

    def rehearse(self, id_to_example: Mapping[str, Example]) -> list[NewExample]:
        """Find out what would become of the answers, and change no example."""
        self.revise(id_to_example)
        return []

    def _revised(self, present: NewExample | None, answer: AnswerIn) -> NewExample:
        if present is None:
            raise _refused("/id", "unknown_id", f"the pool holds no example {describe(answer.id)}")
        if present.status is Status.RETIRED:
            raise _refused("/id", "retired", f"example {describe(answer.id)} is retired")
        has_answer = present.outputs is not None
        is_same = has_answer and canonical_json(present.outputs) == canonical_json(answer.outputs)
        if is_same and present.status is Status.APPROVED:
            self.outcomes.append("unchanged")
            return present
        is_other = has_answer and not is_same
        if is_other and self._on_conflict == "report":
            stored, received = describe(present.outputs), describe(answer.outputs)
            raise _refused("/outputs", "conflict", f"received {received}, the example has {stored}")
        revised = annotated(self._runtime, present, answer)
        self.outcomes.append("replaced" if is_other else "approved")
        return revised


def _refused(pointer: str, code: str, message: str) -> InvalidInput:
    return refusal([FieldError(pointer, message, code)])
