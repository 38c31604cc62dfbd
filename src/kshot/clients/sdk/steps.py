"""Operations that take more than one call: batched ingestion, waiting, create-unless-there.

Each is a generator of calls (`kshot.clients.sdk.flow.Steps`). The docstrings are those of the clients'
methods.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from kshot.clients.sdk.calls import operations, pools
from kshot.clients.sdk.calls.base import Call
from kshot.clients.sdk.calls.examples import merged, upsert_batch
from kshot.clients.sdk.flow import Sleep, Steps
from kshot.clients.sdk.rows import Batch, Row, batches, numbered_lines, numbered_rows
from kshot.errors import EmbedderMismatch, KshotError, PoolExists, Unavailable, code_to_error
from kshot.records import JobState
from kshot.schemas.base import Existing, Wait
from kshot.schemas.examples import UpsertReply
from kshot.schemas.operations import JobInfo
from kshot.schemas.plans import PlanInfo
from kshot.schemas.pools import PoolInfo

T = TypeVar("T")
W = TypeVar("W", JobInfo, PlanInfo)
Progress: TypeAlias = Callable[[int], object]
"""Called after every batch with the number of lines accounted for."""

WAIT_BY_DEFAULT_UP_TO = 1000
"""Ingestion of this many rows or fewer returns when they can be selected."""
INDEXING_TIMEOUT_S = 600.0


def create_pool(
    name: str,
    *,
    exist_ok: bool = False,
    embedder: str | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Steps[PoolInfo]:
    """Create a pool.

    Parameters
    ----------
    name : str
        Letters, digits, ``.``, ``_`` and ``-``; at most 100.
    exist_ok : bool
        Return the pool of that name if there is one; its settings stay as they are.
    embedder : str or dict, optional
        ``"minilm"`` (default), ``"hashing"``, or ``{"type": ..., ...parameters}``.
    **settings
        Other fields of `kshot.schemas.pools.PoolSettings`.

    Raises
    ------
    PoolExists
        There is a pool of that name and ``exist_ok`` is false.
    EmbedderMismatch
        There is one and it has another embedder than the given one.
    InvalidInput
        ``errors`` names the settings that were refused.
    MissingDependency
        The server lacks the packages that the embedder needs.
    """
    try:
        created: PoolInfo = yield pools.create_pool(name, embedder=embedder, settings=settings)
    except PoolExists:
        if not exist_ok:
            raise
    else:
        return created
    present: PoolInfo = yield pools.get_pool(name)
    wanted = pools.embedder_spec(embedder)
    actual = present.settings.embedder.model_dump()
    if wanted is not None and any(actual.get(key) != value for key, value in wanted.items()):
        raise EmbedderMismatch(f"pool {name} exists with embedder {actual}, wanted {dict(wanted)}")
    return present


def upsert(
    pool: str,
    examples: Iterable[Row],
    *,
    wait: Wait | None = None,
    existing: Existing = "update",
    batch_size: int = 500,
    on_progress: Progress | None = None,
    timeout_s: float | None = INDEXING_TIMEOUT_S,
) -> Steps[UpsertReply]:
    """Store examples, in batches; a bad row stops no other and is reported in ``rejected``.

    Parameters
    ----------
    pool : str
    examples : iterable of dict, ExampleIn or (inputs, outputs)
        Read as it is sent, so that it may be longer than memory.
    wait : "indexed" or "none", optional
        Whether to return only when the rows can be selected. Default: for up to 1,000 rows.
    existing : "update" or "keep"
        What becomes of stored examples whose ids come again: the new row replaces them, or they stay as they
        are.
    batch_size : int
        Rows per request, 1 to 10,000.
    on_progress : callable, optional
        Called after every batch with the number of rows accounted for.
    timeout_s : float, optional
        Longest wait for the index; None waits for ever.

    Returns
    -------
    UpsertReply
        Sums over all batches; ``line`` counts from 1 over the whole iterable.

    Raises
    ------
    PoolNotFound
    InvalidInput
        A row that cannot be written as JSON. Batches before it are stored, as a note of the exception says.
    Unavailable
        The index did not catch up in time; the rows are stored.
    """
    source = batches(numbered_rows(examples), batch_size)
    return (
        yield from _send(
            pool, source, wait=wait, existing=existing, on_progress=on_progress, timeout_s=timeout_s
        )
    )


def upsert_ndjson(
    pool: str,
    source: str | Path | Iterable[bytes | str],
    *,
    wait: Wait | None = None,
    existing: Existing = "update",
    batch_size: int = 500,
    on_progress: Progress | None = None,
    timeout_s: float | None = INDEXING_TIMEOUT_S,
) -> Steps[UpsertReply]:
    """Store the examples of a JSONL file, or of any iterable of such lines.

    The server parses the lines, so that a broken one is rejected by its number like any other bad row. Blank
    lines are passed over but counted.

    Parameters
    ----------
    pool : str
    source : path, or iterable of bytes or str
        Read as it is sent: a file may be larger than memory.
    wait, existing, batch_size, on_progress, timeout_s
        As for ``upsert``.

    Returns
    -------
    UpsertReply
        Sums over all batches; ``line`` is the line of the source, counted from 1. ``ids`` is empty: a file
        may hold more of them than memory does.

    Raises
    ------
    PoolNotFound
    Unavailable
        The index did not catch up in time; the rows are stored.
    """
    lines = _lines_of(Path(source)) if isinstance(source, str | Path) else source
    numbered = batches(numbered_lines(lines), batch_size)
    return (
        yield from _send(
            pool,
            numbered,
            wait=wait,
            existing=existing,
            on_progress=on_progress,
            timeout_s=timeout_s,
            keep_ids=False,
        )
    )


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _send(
    pool: str,
    source: Iterator[Batch],
    *,
    wait: Wait | None,
    existing: Existing,
    on_progress: Progress | None,
    timeout_s: float | None,
    keep_ids: bool = True,
) -> Steps[UpsertReply]:
    replies: list[UpsertReply] = []
    rows = 0
    waits = wait == "indexed"
    try:
        for batch, is_last in _mark_last(source):
            rows += len(batch.rows)
            if is_last and wait is None:
                waits = rows <= WAIT_BY_DEFAULT_UP_TO
            # One request must not last as long as a long queue takes; that is asked for bit by bit below.
            at_once = is_last and waits and rows <= WAIT_BY_DEFAULT_UP_TO
            reply: UpsertReply = yield upsert_batch(
                pool, batch.rows, "indexed" if at_once else "none", existing
            )
            reply = batch.in_source_lines(reply)
            replies.append(reply if keep_ids else reply.model_copy(update={"ids": []}))
            if on_progress is not None:
                on_progress(batch.lines[-1])
    except KshotError as error:
        if replies:
            error.add_note(f"the batches up to line {replies[-1].upto_line} are stored")
        raise
    total = merged(replies) if replies else (yield from _nothing(pool))
    if waits and not total.indexed:
        yield from wait_indexed(pool, total.version, timeout_s=timeout_s)
        total = total.model_copy(update={"indexed": True})
    return total


def _nothing(pool: str) -> Steps[UpsertReply]:
    state: PoolInfo = yield pools.get_pool(pool)
    return UpsertReply(
        accepted=0,
        created=0,
        updated=0,
        unchanged=0,
        version=state.version,
        indexed=state.indexed_version >= state.version,
        upto_line=0,
    )


def _mark_last(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    held: list[T] = []
    for item in items:
        if held:
            yield held.pop(), False
        held.append(item)
    if held:
        yield held.pop(), True


def wait_indexed(
    pool: str, version: int | None = None, *, timeout_s: float | None = INDEXING_TIMEOUT_S
) -> Steps[PoolInfo]:
    """Wait until every example of a pool version can be selected.

    Parameters
    ----------
    pool : str
    version : int, optional
        Such as ``UpsertReply.version``; default: the pool's at the time of the call.
    timeout_s : float, optional
        None waits for ever.

    Raises
    ------
    PoolNotFound
    Unavailable
        The time is over.
    """
    deadline = _deadline(timeout_s)
    for pause in _pauses():
        state: PoolInfo = yield pools.get_pool(pool)
        version = state.version if version is None else version
        if state.indexed_version >= version:
            return state
        if time.monotonic() + pause > deadline:
            break
        yield Sleep(pause)
    raise Unavailable(
        f"pool {pool} is indexed up to version {state.indexed_version} after {timeout_s} s, wanted {version}"
    )


def wait_job(
    job_id: str,
    *,
    timeout_s: float | None = None,
    on_progress: Callable[[JobInfo], object] | None = None,
) -> Steps[JobInfo]:
    """Wait until a job has succeeded or was cancelled.

    Parameters
    ----------
    job_id : str
    timeout_s : float, optional
        Default: no limit.
    on_progress : callable, optional
        Called with the job as often as it is looked at.

    Raises
    ------
    JobNotFound
    KshotError
        The job failed: the class that its error's code names.
    Unavailable
        The time is over; the job goes on.
    """
    ended: JobInfo = yield from await_end(
        lambda: operations.get_job(job_id), f"job {job_id}", timeout_s=timeout_s, on_progress=on_progress
    )
    return ended


def await_end(
    look: Callable[[], Call[W]],
    what: str,
    *,
    timeout_s: float | None,
    on_progress: Callable[[W], object] | None,
) -> Steps[W]:
    """Look at long work again and again until it has ended; raises what it failed of."""
    deadline = _deadline(timeout_s)
    for pause in _pauses():
        work: W = yield look()
        if on_progress is not None:
            on_progress(work)
        if work.state is JobState.FAILED:
            raise _failure(what, work.error)
        if work.state.is_final:
            return work
        if time.monotonic() + pause > deadline:
            break
        yield Sleep(pause)
    raise Unavailable(f"{what} is still {work.state} after {timeout_s} s ({work.done} of {work.total})")


def _failure(what: str, reason: Mapping[str, Any] | None) -> KshotError:
    error = reason or {}
    cls = code_to_error().get(str(error.get("code")), KshotError)
    return cls(f"{what} failed: {error.get('detail', 'no reason given')}")


def _deadline(timeout_s: float | None) -> float:
    return float("inf") if timeout_s is None else time.monotonic() + timeout_s


def _pauses() -> Iterator[float]:
    pause = 0.05
    while True:
        yield pause
        pause = min(1.0, pause * 1.5)
