"""Calls about annotation."""

from collections.abc import Sequence

from kshot.clients.sdk.calls.base import Call, encode, path_of, reader
from kshot.schemas.annotations import AnnotationReply, OnConflict


def annotate_batch(
    pool: str, rows: Sequence[bytes], on_conflict: OnConflict, *, dry_run: bool
) -> Call[AnnotationReply]:
    """Write one batch of answers, each of them JSON already; the batch is stored as a whole.

    It carries an idempotency key, so that a repetition after a lost reply still tells what was approved.
    """
    options = encode({"on_conflict": on_conflict, "dry_run": dry_run}).removesuffix(b"}")
    return Call(
        method="POST",
        path=path_of("pools", pool, "annotations"),
        body=options + b',"answers":[' + b",".join(rows) + b"]}",
        creates=True,
        read=reader(AnnotationReply),
    )


def merged(replies: Sequence[AnnotationReply]) -> AnnotationReply:
    """Add up the replies to consecutive batches; version and index are the last one's."""
    last = replies[-1]
    return AnnotationReply(
        approved=sum(reply.approved for reply in replies),
        replaced=sum(reply.replaced for reply in replies),
        unchanged=sum(reply.unchanged for reply in replies),
        rejected=[row for reply in replies for row in reply.rejected],
        version=last.version,
        indexed=last.indexed,
    )
