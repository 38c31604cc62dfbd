"""The first half of `select`: from features and a snapshot to the prompts that may be the answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kshot.errors import FieldError, InvalidInput
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Eligible, Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.pools import OrderName, PackingName
from kshot.schemas.selections import Adaptive, Frame, GainStep, RandomOrder, SelectRequest
from kshot.selectors import adaptive_k, organisations
from kshot.selectors.mdl import Mdl
from kshot.server.selectors_schema import build_selector
from kshot.server.services import assembly, choosing, prefix
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import Choice, Method
from kshot.server.services.fetching import chosen_rows, core_choice, room_beside
from kshot.server.services.pace import in_time
from kshot.server.services.runtime import PoolRuntime

MDL_ORDER = "mdl"
"""The prompt order that the scorer chooses."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When a request came in and when its query was embedded; readings of `time.perf_counter`."""

    started: float
    embedded: float


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One way to fill the prompt.

    ``stable`` and ``dynamic`` are in prompt order; ``dropped`` did not fit into the budget, ``cut`` is not
    worth its tokens.
    """

    stable: list[Chosen]
    dynamic: list[Chosen]
    dropped: list[Chosen]
    cut: list[Chosen]
    curve: list[GainStep]

    @property
    def chosen(self) -> list[Chosen]:
        """All demonstrations in prompt order."""
        return [*self.stable, *self.dynamic]


@dataclass(frozen=True, slots=True)
class Draft:
    """A selection made but for the choice between arrangements.

    Attributes
    ----------
    request : SelectRequest
        With the pool's defaults where the caller's was silent.
    method : Method
        The one that ran.
    late : bool
        Whether it runs in place of one that would have been late.
    mdl : Mdl or None
        By what to choose among the arrangements; None where there is only one by construction.
    allowed, near : Eligible
        What filter and exclusions left, and what of that is near enough and no repeat.
    choice : Choice
    arrangements : sequence of Arrangement
        The first is the one to take where nobody says which is best.
    notices : list of Notice
    searched, selected, drafted : float
        Readings of `time.perf_counter`.
    """

    snapshot: Snapshot
    query: QueryFeatures
    request: SelectRequest
    k: int
    method: Method
    late: bool
    mdl: Mdl | None
    allowed: Eligible
    near: Eligible
    frame: Frame | None
    choice: Choice
    arrangements: Sequence[Arrangement]
    notices: list[Notice]
    clock: Clock
    searched: float
    selected: float
    drafted: float


def asks_scorer(runtime: PoolRuntime, method: Method, request: SelectRequest) -> Mdl | None:
    """Return by what the scorer chooses, if the method or the order leaves it a choice.

    Raises
    ------
    InvalidInput
        The request has no inputs to ask the scorer about, or wants one set for many queries.
    """
    order = request.order or runtime.settings.select.order
    if isinstance(method.selector, Mdl):
        pointer, mdl = "/method", method.selector
    elif order == MDL_ORDER:
        found = build_selector("mdl", runtime.settings.select.params.get("mdl", {}))
        assert isinstance(found, Mdl)
        pointer, mdl = "/order", found
    else:
        return None
    message = None
    if request.sticky is not None:
        message = (
            "'mdl' chooses for each query anew, and `sticky` wants one set for many; leave one of them out"
        )
    elif request.inputs is None and pointer == "/order":
        message = "'mdl' needs the query's text; give `inputs`"
    if message is not None:
        raise InvalidInput(f"{pointer} {message}", errors=[FieldError(pointer, message)])
    return mdl


def drafted(
    store: Store,
    runtime: PoolRuntime,
    method: Method,
    query: QueryFeatures,
    request: SelectRequest,
    clock: Clock,
    *,
    fallbacks: Sequence[Method] = (),
) -> Draft:
    """Choose, fetch, pack and order. Reads one snapshot; safe in any thread.

    ``fallbacks`` may answer in place of ``method`` where that would miss the request's deadline.
    """
    snapshot = runtime.index.snapshot
    order_given = request.order
    request, k, order, packing = _with_defaults(runtime, request)
    late: Notice | None = None
    if request.deadline_ms is not None:
        left_ms = request.deadline_ms - milliseconds(clock.started, time.perf_counter())
        method, late = in_time(runtime.pace, method, fallbacks, query, left_ms, exact=request.exact)
        if late is not None:
            request = request.model_copy(update={"exact": False})
    method, notices = choosing.fitting(method, query, runtime.settings.difficulty_field)
    mdl = asks_scorer(runtime, method, request)
    notices += [late] if late is not None else []
    allowed = snapshot.eligible(request.filter, choosing.exclusions(request))
    notices += unseen_notices(allowed)
    frame = _frame(runtime, snapshot, request)
    system = None if frame is None else frame.system
    core = core_choice(snapshot, query, prefix.core_rows(runtime, snapshot, request, allowed, k))
    stable = chosen_rows(store, runtime, snapshot, query, core, is_stable=True)
    stable = prefix.aligned(
        runtime, system, stable, None if request.stable is None else request.stable.block_tokens
    )
    near = choosing.with_min_score(snapshot, query, allowed, request.min_score)
    if request.distinct.content:
        near = choosing.without(near, snapshot.repeats.later(near.mask))
    core_rows = np.array([one.row for one in stable], np.int64)
    eligible = choosing.beside(snapshot, near, core_rows, request.distinct)
    searched = time.perf_counter()
    wanted = k - len(stable)
    choice = choosing.choose(
        snapshot,
        query,
        eligible,
        method,
        request,
        _depth(method, wanted),
        runtime.settings.difficulty_field,
        room_beside(store, runtime, snapshot, stable, request) if packing == "knapsack" else None,
    )
    selected = time.perf_counter()
    picked = chosen_rows(store, runtime, snapshot, query, choice, is_stable=False)

    def usual(picks: Sequence[Chosen]) -> list[Chosen]:
        # Where the scorer does not choose the order, the plain one holds.
        plain = "nearest_last" if order == MDL_ORDER else order
        return assembly.ordered(runtime, snapshot, picks, plain, request.seed)

    if isinstance(method.selector, Mdl):
        choice = replace(choice, runners_up=tuple(one for one in choice.runners_up if one.like is not None))
    # An order that the request names holds for every organisation; otherwise it is part of each.
    is_named = isinstance(method.selector, Mdl) and order_given is not None and order_given != MDL_ORDER
    arrangements = [
        _arranged(
            runtime, stable, some, request, packing, usual if shuffled is None or is_named else shuffled
        )
        for some, shuffled in _organised(picked, wanted, method, mdl, request.seed)
    ]
    return Draft(
        snapshot=snapshot,
        query=query,
        request=request,
        k=k,
        method=method,
        late=late is not None,
        mdl=mdl,
        allowed=allowed,
        near=near,
        frame=frame,
        choice=choice,
        arrangements=arrangements,
        notices=notices,
        clock=clock,
        searched=searched,
        selected=selected,
        drafted=time.perf_counter(),
    )


_Arrange = Callable[[Sequence[Chosen]], list[Chosen]]


def _depth(method: Method, wanted: int) -> int:
    """Return how many rows the method is to rank: those that organisations are drawn from, if they are."""
    if wanted < 1 or not isinstance(method.selector, Mdl):
        return wanted
    return max(wanted, method.selector.candidates)


def _organised(
    picked: Sequence[Chosen], wanted: int, method: Method, mdl: Mdl | None, seed: int
) -> list[tuple[list[Chosen], _Arrange | None]]:
    """Return sets of picks in pick order, each with an order for the prompt; None is the usual one."""
    if mdl is None or not picked or wanted < 1:
        return [(list(picked), None)]
    size = wanted if isinstance(method.selector, Mdl) else len(picked)
    rng = np.random.Generator(np.random.PCG64(seed))
    plain, *others = organisations(len(picked), size, mdl.organisations, rng).tolist()
    # Packing gives up the least relevant, whatever its place in the prompt.
    return [
        ([picked[place] for place in plain], None),
        *(([picked[place] for place in sorted(one)], _by_place(picked, one)) for one in others),
    ]


def _by_place(picked: Sequence[Chosen], places: Sequence[int]) -> _Arrange:
    row_to_place = {picked[pick].row: place for place, pick in enumerate(places)}
    return lambda picks: sorted(picks, key=lambda one: row_to_place[one.row])


def _arranged(
    runtime: PoolRuntime,
    stable: Sequence[Chosen],
    picked: list[Chosen],
    request: SelectRequest,
    packing: PackingName,
    arrange: _Arrange,
) -> Arrangement:
    worthy, curve = _worth_their_tokens(picked, request.adaptive)
    core, dynamic, dropped = assembly.fitted(runtime, stable, worthy, packing, request.max_tokens, arrange)
    return Arrangement(core, dynamic, dropped, picked[len(worthy) :], curve)


def _worth_their_tokens(
    picked: list[Chosen], adaptive: Adaptive | None
) -> tuple[list[Chosen], list[GainStep]]:
    """Cut the picks where more are not worth their tokens, and describe all of them in pick order."""
    if adaptive is None:
        return picked, []
    gains, tokens = [one.gain for one in picked], [one.tokens for one in picked]
    found = adaptive_k(gains, tokens, adaptive.min_gain_per_token, min_k=adaptive.min_k)
    curve = [
        GainStep(
            id=one.example.id, gain=one.gain, tokens=one.tokens, gain_per_token=rate, kept=place < found.kept
        )
        for place, (one, rate) in enumerate(zip(picked, found.gain_per_token.tolist(), strict=True))
    ]
    return picked[: found.kept], curve


def _with_defaults(
    runtime: PoolRuntime, request: SelectRequest
) -> tuple[SelectRequest, int, OrderName | RandomOrder, PackingName]:
    defaults = runtime.settings.select
    k = defaults.k if request.k is None else request.k
    order, packing = request.order or defaults.order, request.packing or defaults.packing
    return request.model_copy(update={"k": k, "order": order, "packing": packing}), k, order, packing


def unseen_notices(eligible: Eligible) -> list[Notice]:
    """Say which fields of a filter no example has: most likely a typing error."""
    return [
        Notice(code="field_unseen", message=f"no example has the field {name!r}")
        for name in eligible.unseen_fields
    ]


def _frame(runtime: PoolRuntime, snapshot: Snapshot, request: SelectRequest) -> Frame | None:
    templates = runtime.templates
    if templates.is_default:
        return None
    query = None if request.inputs is None else templates.query(request.inputs)
    return Frame(
        system=templates.system(runtime.record.name, assembly.shown_labels(snapshot)),
        separator=templates.separator,
        query_input=None if query is None else query.input,
        query_text=None if query is None else query.text,
    )


def milliseconds(start: float, end: float) -> float:
    """Return the time between two readings of `time.perf_counter`."""
    return round((end - start) * 1000, 3)
