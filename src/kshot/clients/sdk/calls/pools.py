"""Calls about pools."""

from collections.abc import Mapping
from typing import Any

from kshot.clients.sdk.calls.base import Call, Pages, encode, page_params, path_of, present, reader
from kshot.schemas.pools import PoolInfo, PoolList, PoolStats

PREPARING_TIMEOUT_S = 900.0
"""The first pool with a local model waits until that is prepared for the machine: half a minute or more."""


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

    def read(body: bytes) -> tuple[list[PoolInfo], str | None]:
        page = reader(PoolList)(body)
        return page.data, page.next_cursor

    return Pages(
        lambda cursor: Call(method="GET", path=path_of("pools"), params=page_params(cursor), read=read)
    )


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


def pool_stats(name: str) -> Call[PoolStats]:
    """Count a pool's examples by status, split and label, and say what they occupy.

    Raises
    ------
    PoolNotFound
    """
    return Call(method="GET", path=path_of("pools", name, "stats"), read=reader(PoolStats))
