"""Calls that choose demonstrations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from kshot.clients.sdk.calls.base import Call, encode, path_of, present, reader
from kshot.clients.sdk.fallback import Fallback, checked, fallback_reply, is_outage
from kshot.clients.sdk.problems import error_of
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidInput, KshotError
from kshot.formatting import Style
from kshot.records import Content
from kshot.schemas.base import Problem
from kshot.schemas.selections import (
    BatchItem,
    BatchReply,
    RenderReply,
    SearchReply,
    SelectionReply,
    SelectorInfo,
    SelectorList,
    SelectRequest,
    StoredSelection,
)


class SelectOptions(TypedDict, total=False):
    """Everything about a selection but its query; the meaning of each is told at ``select``."""

    k: int | None
    max_tokens: int | None
    method: str | Mapping[str, Any] | None
    filter: Mapping[str, Any] | None
    exclude: Mapping[str, Any] | None
    min_score: float | None
    order: str | Mapping[str, Any] | None
    stable: int | Mapping[str, Any] | None
    sticky: int | Mapping[str, Any] | None
    distinct: float | Mapping[str, Any] | None
    adaptive: float | Mapping[str, Any] | None
    exact: bool
    deadline_ms: float | None
    seed: int
    explain: bool
    durable: bool
    packing: str | None


def select(
    pool: str,
    inputs: Content | None = None,
    *,
    k: int | None = None,
    max_tokens: int | None = None,
    method: str | Mapping[str, Any] | None = None,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  (the word of the HTTP interface)
    exclude: Mapping[str, Any] | None = None,
    min_score: float | None = None,
    order: str | Mapping[str, Any] | None = None,
    stable: int | Mapping[str, Any] | None = None,
    sticky: int | Mapping[str, Any] | None = None,
    distinct: float | Mapping[str, Any] | None = None,
    adaptive: float | Mapping[str, Any] | None = None,
    exact: bool = False,
    deadline_ms: float | None = None,
    seed: int = 0,
    vector: Sequence[float] | None = None,
    explain: bool = False,
    durable: bool = False,
    packing: str | None = None,
    fallback: Fallback | None = None,
) -> Call[Selection]:
    """Choose the best set of demonstrations for one query.

    Parameters
    ----------
    pool : str
    inputs : str or dict, optional
        The query, in the form of the pool's examples: one text, or named fields.
    k : int, optional
        Demonstrations wanted; default: the pool's (8).
    max_tokens : int, optional
        Limit for all demonstrations together, in tokens of the pool's tokenizer.
    method : str or dict, optional
        A name, or ``{"type": name, ...parameters}``; ``selectors()`` lists both. Default: the pool's.
    filter : dict, optional
        Which examples may be chosen, such as ``{"field": "metadata.lang", "eq": "en"}``.
    exclude : dict, optional
        Which may not: ``ids``, ``content_hashes``, ``groups``, ``splits``, ``same_content``.
    min_score : float, optional
        Least cosine similarity to the query, in [-1, 1]; fewer than ``k`` may remain, or none.
    order : str or dict, optional
        Order in the prompt, such as ``"nearest_last"`` or ``{"type": "random", "seed": 7}``; ``"mdl"`` asks
        the server's scorer.
    stable : int or dict, optional
        Size of a core that is the same for every query and stands first, so that prompt caches hold; with
        ``{"k": 4, "block_tokens": 16}`` it is cut to fill the engine's blocks.
    sticky : int or dict, optional
        Number of clusters; all queries of one cluster get one set.
    distinct : float or dict, optional
        Cosine from which two examples are too alike to be shown together, or
        ``{"similarity": 0.95, "content": False}``. Equal content is shown once by default.
    adaptive : float or dict, optional
        Least gain per prompt token, in the method's own unit: fewer than ``k`` are shown where more are not
        worth their tokens. Or ``{"min_gain_per_token": 0.002, "min_k": 2}``.
    exact : bool
        Whether to score every eligible example where the method would look at a shortlist.
    deadline_ms : float, optional
        A method that would miss it, going by its recent times, is replaced by a cheaper one, and a scorer is
        not waited for beyond it; the result says so (``degraded``).
    seed : int
        For methods that draw lots; the same seed gives the same selection.
    vector : sequence of float, optional
        The caller's own sentence vector of the query.
    explain : bool
        Whether to say why these, which words of the query each one covers, and what came close.
    durable : bool
        Whether to answer only when the record of the selection is on disk.
    packing : str, optional
        How ``max_tokens`` is kept, such as ``"prefix_stop"``.
    fallback : list of dict, or callable, optional
        Demonstrations in prompt order, or a function of ``inputs`` that returns them: the answer when the
        server cannot be reached, has too much to do or fails. A mistake in the request raises nevertheless.
        Default: the client's.

    Returns
    -------
    Selection

    Raises
    ------
    PoolNotFound, InvalidInput, UnknownSelector, InvalidFilter, DimensionMismatch
    """
    options = SelectOptions(
        k=k,
        max_tokens=max_tokens,
        method=method,
        filter=filter,
        exclude=exclude,
        min_score=min_score,
        order=order,
        stable=stable,
        sticky=sticky,
        distinct=distinct,
        adaptive=adaptive,
        exact=exact,
        deadline_ms=deadline_ms,
        seed=seed,
        explain=explain,
        durable=durable,
        packing=packing,
    )
    own = checked(fallback)

    def recover(default: Fallback | None, failure: KshotError) -> Selection | None:
        return _substitute(default if own is None else own, pool, inputs, k, failure)

    return Call(
        method="POST",
        path=path_of("pools", pool, "select"),
        body=encode(_body(options) | _query(inputs, vector)),
        read=lambda body: Selection(SelectionReply.model_validate_json(body), inputs),
        recover=recover,
    )


def _substitute(
    fallback: Fallback | None, pool: str, inputs: Content | None, k: int | None, failure: KshotError
) -> Selection | None:
    if fallback is None or not is_outage(failure):
        return None
    reply = fallback_reply(fallback, pool=pool, query=inputs, k=k, failure=failure)
    return Selection(reply, inputs, is_fallback=True)


def _query(inputs: Content | None, vector: Sequence[float] | None) -> dict[str, Any]:
    return present(inputs=inputs, vector=None if vector is None else [float(x) for x in vector])


_SHORT_FORMS = {
    "stable": "k",
    "sticky": "clusters",
    "distinct": "similarity",
    "adaptive": "min_gain_per_token",
}
"""Options that may be one number, and the field that it stands for."""


def _body(options: SelectOptions) -> dict[str, Any]:
    body = present(**options)
    for name, field in _SHORT_FORMS.items():
        if isinstance(body.get(name), int | float):
            body[name] = {field: body[name]}
    return body


def select_batch(
    pool: str,
    queries: Iterable[Content | SelectRequest],
    *,
    fallback: Fallback | None = None,
    **options: Unpack[SelectOptions],
) -> Call[list[Selection | KshotError]]:
    """Choose demonstrations for up to 1,000 queries at once; a bad query fails alone.

    Parameters
    ----------
    pool : str
    queries : iterable of str, dict or SelectRequest
        The inputs of each query; a `kshot.schemas.selections.SelectRequest` has options of its own, which go
        before the common ones.
    fallback : list of dict, or callable, optional
        As for ``select``, for all queries when the server fails as a whole.
    **options
        As for ``select``.

    Returns
    -------
    list of Selection or KshotError
        In the order of the queries; an error is returned in the place of its query, not raised.

    Raises
    ------
    PoolNotFound, InvalidInput
    """
    asked = list(queries)
    shared = _body(options)
    own = checked(fallback)
    inputs = [query.inputs if isinstance(query, SelectRequest) else query for query in asked]

    def read(body: bytes) -> list[Selection | KshotError]:
        results = BatchReply.model_validate_json(body).results
        return [_batch_answer(item, query) for item, query in zip(results, inputs, strict=True)]

    def recover(default: Fallback | None, failure: KshotError) -> list[Selection | KshotError] | None:
        used = default if own is None else own
        answers = [_substitute(used, pool, query, options.get("k"), failure) for query in inputs]
        return [answer for answer in answers if answer is not None] or None

    return Call(
        method="POST",
        path=path_of("pools", pool, "select:batch"),
        body=encode({"queries": [shared | _own_options(query) for query in asked]}),
        read=read,
        recover=recover,
    )


def _own_options(query: Content | SelectRequest) -> dict[str, Any]:
    if isinstance(query, SelectRequest):
        return query.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"inputs": query}


def _batch_answer(item: BatchItem, query: Content | None) -> Selection | KshotError:
    if item.selection is not None:
        return Selection(item.selection, query)
    return error_of(Problem.model_validate(item.error))


def search(
    pool: str,
    inputs: Content | None = None,
    *,
    k: int = 10,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  (the word of the HTTP interface)
    exclude: Mapping[str, Any] | None = None,
    vector: Sequence[float] | None = None,
) -> Call[SearchReply]:
    """Return the plain nearest neighbours of a query, nearest first; nothing is recorded.

    Parameters are those of ``select``.

    Raises
    ------
    PoolNotFound, InvalidInput, InvalidFilter, DimensionMismatch
    """
    body = present(k=k, filter=filter, exclude=exclude) | _query(inputs, vector)
    return Call(
        method="POST", path=path_of("pools", pool, "search"), body=encode(body), read=reader(SearchReply)
    )


def render(
    pool: str,
    inputs: Content | None = None,
    *,
    format: Literal["messages", "anthropic", "text"] = "messages",  # noqa: A002  (as above)
    style: Style = "turns",
    vector: Sequence[float] | None = None,
    **options: Unpack[SelectOptions],
) -> Call[RenderReply]:
    """Choose demonstrations and put them into the pool's prompt template, on the server.

    Parameters
    ----------
    pool, inputs, vector
        As for ``select``.
    format : "messages", "anthropic" or "text"
        Which part of the result is filled: ``messages``, ``messages`` and ``system``, or ``text``.
    style : "turns" or "inline"
        Demonstrations as user and assistant turns, or inside one user message.
    **options
        As for ``select``.

    Raises
    ------
    PoolNotFound, InvalidInput, InvalidTemplate, UnknownSelector, InvalidFilter, DimensionMismatch
    """
    body = _body(options) | _query(inputs, vector) | {"format": format, "style": style}
    return Call(
        method="POST", path=path_of("pools", pool, "render"), body=encode(body), read=reader(RenderReply)
    )


def get_selection(selection_id: str) -> Call[StoredSelection]:
    """Return the record of a selection: what was shown, when, and why.

    Raises
    ------
    SelectionNotFound
        Unknown, or past its retention.
    """
    if not selection_id:
        raise InvalidInput("selection_id is empty; a fallback selection has none")
    return Call(method="GET", path=path_of("selections", selection_id), read=reader(StoredSelection))


def selectors() -> Call[list[SelectorInfo]]:
    """List the methods that the server knows, with their parameters."""
    return Call(
        method="GET", path=path_of("selectors"), read=lambda body: SelectorList.model_validate_json(body).data
    )
