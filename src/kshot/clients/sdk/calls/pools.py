"""Calls about pools."""

from collections.abc import Iterable, Mapping
from typing import Any

from kshot.clients.sdk.calls.base import Call, Pages, encode, listed, listing, path_of, present, reader
from kshot.schemas.difficulty import Measure
from kshot.schemas.gaps import Gap, GapList
from kshot.schemas.operations import JobInfo
from kshot.schemas.pools import PoolInfo, PoolList, PoolStats

PREPARING_TIMEOUT_S = 900.0
"""The first pool with a local model waits until that is prepared for the machine: half a minute or more."""

HEALTH_TIMEOUT_S = 300.0
"""Another pool's health may be measured first."""


def create_pool(
    name: str, *, embedder: str | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> Call[PoolInfo]:
    """Create a pool; `PoolExists` if there is one of that name."""
    body = {"name": name, "settings": present(**settings, embedder=embedder_spec(embedder))}
    return Call(
        method="POST",
        path=path_of("pools"),
        body=encode(body),
        creates=True,
        read=reader(PoolInfo),
        timeout_s=PREPARING_TIMEOUT_S,
    )


def embedder_spec(embedder: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Expand the name of an embedder without parameters."""
    return {"type": embedder} if isinstance(embedder, str) else embedder


def get_pool(name: str) -> Call[PoolInfo]:
    """Return a pool's settings and state.

    Raises
    ------
    PoolNotFound
    """
    return Call(method="GET", path=path_of("pools", name), read=reader(PoolInfo))


def list_pools() -> Pages[PoolInfo]:
    """Iterate over all pools in alphabetical order, fetching pages as they are needed."""
    return listing(PoolList, path_of("pools"))


def update_pool(name: str, **settings: Any) -> Call[PoolInfo]:
    """Change settings of a pool, each one replaced as a whole.

    Changing ``embedder``, ``embed_template`` or ``token_layer`` of a pool that holds examples starts a job
    that embeds them again: its id is ``job_id`` of the result, see ``wait_job``.

    Parameters
    ----------
    name : str
    **settings
        Fields of `kshot.schemas.pools.PoolSettings`.

    Raises
    ------
    PoolNotFound
    InvalidInput
        ``errors`` names the settings that were refused.
    """
    if isinstance(settings.get("embedder"), str):
        settings["embedder"] = embedder_spec(settings["embedder"])
    return Call(
        method="PATCH",
        path=path_of("pools", name),
        body=encode({"settings": settings}),
        read=reader(PoolInfo),
        timeout_s=PREPARING_TIMEOUT_S,
    )


def delete_pool(name: str) -> Call[None]:
    """Delete a pool with everything in it; `PoolNotFound` if there is none of that name."""
    return Call(method="DELETE", path=path_of("pools", name), read=lambda _: None)


def pool_stats(name: str, *, health: bool = False) -> Call[PoolStats]:
    """Count a pool's examples by status, split and label, and say what they occupy.

    Parameters
    ----------
    name : str
    health : bool
        Also look for near-duplicates, for labels that those of the nearest examples contradict, and for a
        lack of diversity: ``health`` of the result, a `kshot.schemas.health.PoolHealth`. Takes seconds for a
        large pool, of which a random sample is looked at; no time if nothing changed since it was asked last.

    Raises
    ------
    PoolNotFound
    """
    return Call(
        method="GET",
        path=path_of("pools", name, "stats"),
        params={"health": "true"} if health else {},
        read=reader(PoolStats),
        timeout_s=HEALTH_TIMEOUT_S if health else None,
    )


def tune_pool(
    pool: str,
    *,
    apply: bool = False,
    queries: int | None = None,
    k: int | None = None,
    layers: Iterable[int] | None = None,
    exclude_splits: Iterable[str] | None = None,
    seed: int | None = None,
) -> Call[JobInfo]:
    """Start a job that chooses the token layer and the weights of ``fused`` by a pool's labels.

    No language model takes part. Labelled examples serve as queries; what is measured is how many of the k
    nearest other examples carry the same label. A change is proposed only where it is better beyond noise.
    ``wait_job`` waits for the end; the job's ``result`` is a `kshot.schemas.tuning.TuneResult`.

    Parameters
    ----------
    pool : str
    apply : bool
        Change the pool's settings as proposed. Another token layer starts a further job, ``job_id`` of the
        result, that embeds the examples again.
    queries : int, optional
        Examples that serve as queries at most, 50 to 1,000; default 400.
    k : int, optional
        1 to 50; default 8.
    layers : iterable of int, optional
        Token layers to compare with the present one; none if empty. Default: the embedder's own choice, the
        last and two in between.
    exclude_splits : iterable of str, optional
        Splits whose examples take no part; default: ``["test"]``.
    seed : int, optional
        Decides which examples are drawn; default 0.

    Raises
    ------
    PoolNotFound
    InvalidInput
        The pool has too few labels or labelled examples, or its embedder no such layer.
    """
    body = present(
        apply=apply,
        queries=queries,
        k=k,
        layers=None if layers is None else [*layers],
        exclude_splits=listed(exclude_splits),
        seed=seed,
    )
    return Call(
        method="POST",
        path=path_of("pools", pool, "tune"),
        body=encode(body),
        creates=True,
        read=reader(JobInfo),
    )


def measure_difficulty(pool: str, *, measure: Measure | None = None, apply: bool = False) -> Call[JobInfo]:
    """Start a job that asks the server's scorer how likely the answer of every example is.

    The model is given the question alone, as the pool's prompt template writes it. ``wait_job`` waits for the
    end; the job's ``result`` is a `kshot.schemas.difficulty.DifficultyResult`. ``cds`` and the prompt order
    ``easy_to_hard`` go by the numbers where the pool's ``difficulty_field`` says so. Examples that are known
    already are not asked about again: run it after new ones have come.

    Parameters
    ----------
    pool : str
    measure : str, optional
        ``answer_nll``, minus the log-probability of the whole answer, or ``answer_perplexity``, the
        exponential of that per token. Default ``answer_nll``. Both are computed.
    apply : bool
        Make it the pool's ``difficulty_field`` at the end.

    Raises
    ------
    PoolNotFound
    ScorerUnavailable
        The server has no scorer, or it is refused.
    InvalidInput
        No example has outputs.
    """
    return Call(
        method="POST",
        path=path_of("pools", pool, "difficulty"),
        body=encode(present(apply=apply, measure=measure)),
        creates=True,
        read=reader(JobInfo),
    )


def gaps(pool: str, *, below: float | None = None) -> Pages[Gap]:
    """Iterate over the queries to which nothing in the pool came close, the worst first.

    What to annotate next: equal queries are one gap with a count. Pages are fetched as they are needed.

    Parameters
    ----------
    pool : str
    below : float, optional
        Cosine of the query to the nearest example below which a selection counts, in [-1, 1]. Default: the
        pool's ``select.gap_below``.

    Raises
    ------
    PoolNotFound, InvalidInput
        On the first step of the iteration.
    """
    least = None if below is None else repr(float(below))
    return listing(GapList, path_of("pools", pool, "gaps"), below=least)
