"""The import of annotators' answers, batch by batch. The docstring is that of the clients' method."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from kshot.clients.sdk.calls import pools
from kshot.clients.sdk.calls.annotations import annotate_batch, merged
from kshot.clients.sdk.calls.base import encode
from kshot.clients.sdk.flow import Steps
from kshot.clients.sdk.rows import Batch, batches
from kshot.clients.sdk.steps import INDEXING_TIMEOUT_S, WAIT_BY_DEFAULT_UP_TO, Progress, wait_indexed
from kshot.errors import InvalidInput, KshotError
from kshot.labelling import Answer, AnswerFile, Verdict
from kshot.records import Content
from kshot.schemas.annotations import AnnotationReply, AnswerIn, OnConflict
from kshot.schemas.base import Wait
from kshot.schemas.pools import PoolInfo

GivenAnswer: TypeAlias = Answer | AnswerIn | Mapping[str, Any] | tuple[str, Content]
"""One answer: of a file, its fields, or just ``(id, outputs)``."""


def import_answers(
    pool: str,
    answers: AnswerFile | Iterable[GivenAnswer],
    *,
    on_conflict: OnConflict = "report",
    dry_run: bool = False,
    wait: Wait | None = None,
    batch_size: int = 500,
    on_progress: Progress | None = None,
    timeout_s: float | None = INDEXING_TIMEOUT_S,
) -> Steps[AnnotationReply]:
    """Write annotators' answers as outputs and approve the examples; a bad answer stops no other.

    Importing again changes nothing, and completes an import that was broken off.

    Parameters
    ----------
    pool : str
    answers : AnswerFile, or iterable of dict, AnswerIn, Answer or (id, outputs)
        What `kshot.labelling.read_answers` returned, or answers of your own: ``id``, ``outputs`` and, if
        known, ``annotator`` and ``annotated_at`` (a timezone-aware time).
    on_conflict : "report" or "replace"
        Whether an example that has other outputs keeps them, or gets the answer.
    dry_run : bool
        Only say what would happen.
    wait : "indexed" or "none", optional
        Whether to return only when the examples can be selected. Default: for up to 1,000 answers.
    batch_size : int
        Answers per request, 1 to 10,000; a batch is stored as a whole or not at all.
    on_progress : callable, optional
        Called after every batch with the number of answers accounted for.
    timeout_s : float, optional
        Longest wait for the index; None waits for ever.

    Returns
    -------
    AnnotationReply
        Sums over all batches. ``rejected`` has the answers that were not taken, with the line of the file or
        the place among ``answers``, counted from 1.

    Raises
    ------
    PoolNotFound
    InvalidInput
        An answer that cannot be written as JSON. Batches before it are stored, as a note of the exception
        says.
    Unavailable
        The index did not catch up in time; the answers are stored.
    """
    replies: list[AnnotationReply] = []
    done = 0
    try:
        for batch in batches(_numbered(answers), batch_size):
            reply: AnnotationReply = yield annotate_batch(pool, batch.rows, on_conflict, dry_run=dry_run)
            replies.append(_in_source_lines(reply, batch))
            done += len(batch.rows)
            if on_progress is not None:
                on_progress(done)
    except KshotError as error:
        if replies:
            error.add_note(f"the first {done} answers are stored")
        raise
    total = merged(replies) if replies else (yield from _nothing(pool))
    waits = done <= WAIT_BY_DEFAULT_UP_TO if wait is None else wait == "indexed"
    if waits and not total.indexed:
        yield from wait_indexed(pool, total.version, timeout_s=timeout_s)
        total = total.model_copy(update={"indexed": True})
    return total


def _numbered(answers: AnswerFile | Iterable[GivenAnswer]) -> Iterator[tuple[int, bytes]]:
    if isinstance(answers, str | Mapping):
        raise InvalidInput(f"answers is one {type(answers).__name__}, wanted an iterable of answers")
    several = answers.given if isinstance(answers, AnswerFile) else answers
    for place, answer in enumerate(several, start=1):
        if isinstance(answer, Answer) and answer.verdict is not Verdict.GIVEN:
            continue
        line = answer.line if isinstance(answer, Answer) else place
        try:
            yield line, encode(_as_fields(answer))
        except InvalidInput as error:
            raise InvalidInput(f"answer {line}: {error.message}") from error


def _as_fields(answer: GivenAnswer) -> Mapping[str, Any] | AnswerIn:
    if isinstance(answer, Answer):
        fields = {name: getattr(answer, name) for name in ("id", "outputs", "annotator", "annotated_at")}
        return {name: value for name, value in fields.items() if value is not None}
    if isinstance(answer, Mapping | AnswerIn):
        return answer
    if isinstance(answer, tuple) and len(answer) == 2:
        return {"id": answer[0], "outputs": answer[1]}
    raise InvalidInput(
        f"{type(answer).__name__} is no answer; wanted a dict, AnswerIn, Answer or (id, outputs)"
    )


def _in_source_lines(reply: AnnotationReply, batch: Batch) -> AnnotationReply:
    rejected = [row.model_copy(update={"line": batch.lines[row.line - 1]}) for row in reply.rejected]
    return reply.model_copy(update={"rejected": rejected})


def _nothing(pool: str) -> Steps[AnnotationReply]:
    state: PoolInfo = yield pools.get_pool(pool)
    return AnnotationReply(
        approved=0,
        replaced=0,
        unchanged=0,
        version=state.version,
        indexed=state.indexed_version >= state.version,
    )
