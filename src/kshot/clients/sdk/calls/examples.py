"""Calls about examples."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kshot.clients.sdk.calls.base import (
    NDJSON,
    Call,
    Pages,
    encode,
    listed,
    listing,
    path_of,
    present,
    reader,
)
from kshot.clients.sdk.problems import error_of
from kshot.schemas.base import Existing, Problem, Wait
from kshot.schemas.examples import DeleteReply, ExampleInfo, ExampleList, UpsertReply

INDEXING_TIMEOUT_S = 120.0
"""Limit of a request that waits until its rows are indexed."""


def upsert_batch(
    pool: str, rows: Sequence[bytes], wait: Wait, existing: Existing = "update"
) -> Call[UpsertReply]:
    """Store one batch, one line of JSON per example: a bad or even broken one stops no other.

    Sent without an idempotency key: to store a row again changes nothing.
    """
    return Call(
        method="POST",
        path=path_of("pools", pool, "examples"),
        params={"wait": wait} if existing == "update" else {"wait": wait, "existing": existing},
        body=b"\n".join(rows) + b"\n",
        content_type=NDJSON,
        timeout_s=INDEXING_TIMEOUT_S if wait == "indexed" else None,
        read=_read_replies,
    )


def _read_replies(body: bytes) -> UpsertReply:
    # An empty body is read as well, so that it fails like any other that is no answer.
    return merged([_read_reply(line) for line in body.strip().split(b"\n")])


def _read_reply(line: bytes) -> UpsertReply:
    try:
        return UpsertReply.model_validate_json(line)
    except ValidationError as error:
        try:
            problem = Problem.model_validate_json(line)
        except ValidationError:
            raise error from None
        # The status was sent before the failure: only the last line can tell.
        raise error_of(problem) from None


def merged(replies: Sequence[UpsertReply]) -> UpsertReply:
    """Add up the answers to consecutive batches; version and progress are the last one's."""
    last = replies[-1]
    return UpsertReply(
        accepted=sum(reply.accepted for reply in replies),
        created=sum(reply.created for reply in replies),
        updated=sum(reply.updated for reply in replies),
        unchanged=sum(reply.unchanged for reply in replies),
        rejected=[row for reply in replies for row in reply.rejected],
        notices=[row for reply in replies for row in reply.notices],
        ids=[row_id for reply in replies for row_id in reply.ids],
        version=last.version,
        indexed=last.indexed,
        upto_line=last.upto_line,
    )


def get_example(pool: str, example_id: str) -> Call[ExampleInfo]:
    """Return one example.

    Raises
    ------
    PoolNotFound, ExampleNotFound
    """
    return Call(method="GET", path=path_of("pools", pool, "examples", example_id), read=reader(ExampleInfo))


def list_examples(pool: str, filter: Mapping[str, Any] | None = None) -> Pages[ExampleInfo]:  # noqa: A002  (as in `select`)
    """Iterate over a pool's examples in the order of ingestion, fetching pages as they are needed.

    Parameters
    ----------
    pool : str
    filter : dict, optional
        Conditions of `kshot.schemas.filters`, such as ``{"field": "status", "eq": "draft"}``.

    Raises
    ------
    PoolNotFound, InvalidFilter
        On the first step of the iteration.
    """
    condition = None if filter is None else encode(filter).decode("ascii")
    return listing(ExampleList, path_of("pools", pool, "examples"), filter=condition)


def patch_example(pool: str, example_id: str, **changes: Any) -> Call[ExampleInfo]:
    """Change fields of one example; new inputs are embedded again.

    Parameters
    ----------
    pool, example_id : str
    **changes
        Fields of `kshot.schemas.examples.ExamplePatch`: ``inputs``, ``outputs``, ``metadata``, ``split``,
        ``status``, ``subject_id``, ``group``, ``vector``. None removes one.

    Raises
    ------
    PoolNotFound, ExampleNotFound
    InvalidInput
        ``errors`` names the fields that were refused.
    """
    return Call(
        method="PATCH",
        path=path_of("pools", pool, "examples", example_id),
        body=encode(changes),
        read=reader(ExampleInfo),
    )


def delete_example(pool: str, example_id: str) -> Call[DeleteReply]:
    """Delete one example; its text is wiped from the store.

    Raises
    ------
    PoolNotFound, ExampleNotFound
    """
    return Call(
        method="DELETE", path=path_of("pools", pool, "examples", example_id), read=reader(DeleteReply)
    )


def delete_examples(
    pool: str, ids: Iterable[str] | None = None, *, subject_id: str | None = None
) -> Call[DeleteReply]:
    """Delete examples by id, or all that belong to one subject; their texts are wiped from the store.

    Ids that do not exist are passed over: the result lists those that did.

    Raises
    ------
    PoolNotFound
    InvalidInput
        Not exactly one of ``ids`` and ``subject_id``.
    """
    return Call(
        method="POST",
        path=path_of("pools", pool, "examples:delete"),
        body=encode(present(ids=listed(ids), subject_id=subject_id)),
        creates=True,
        read=reader(DeleteReply),
    )
