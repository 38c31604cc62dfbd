"""Making a plan: what a job of kind ``plan`` does."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kshot.arrays import Float32s
from kshot.errors import Unavailable
from kshot.index.neighbour_files import load_or_build_graph
from kshot.index.store import Store
from kshot.records import PlanItem
from kshot.schemas.base import Notice
from kshot.schemas.curves import BudgetCurve
from kshot.schemas.plans import GraphInfo, PlanRequest, PlanResult, StratumResult
from kshot.schemas.selections import MethodSpec
from kshot.selectors.annotation import PlanCandidates, Planner
from kshot.selectors.annotation.base import Report
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.server.logs import get_logger
from kshot.server.planners_schema import build_planner
from kshot.server.services.planning.confidence import confidences
from kshot.server.services.planning.curve import budget_curve
from kshot.server.services.planning.gathering import Task, complete, task_of
from kshot.server.services.planning.phases import Phases, part_of
from kshot.server.services.planning.runs import (
    Order,
    Ordered,
    Stratum,
    stratified_order,
    whole_order,
    within_cost,
)
from kshot.server.services.progress import Progress
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.service import ScoringService

log = get_logger(__name__)

GRAPHS = "graphs"
"""Folder, below a pool's features, of the neighbour graphs that plans have built."""
STALLED_S = 600.0
_LOOK_EVERY_S = 0.1


def planner_of(request: PlanRequest) -> tuple[str, dict[str, Any], Planner]:
    """Return the planner that a request names, with its name and its parameters as given.

    Raises
    ------
    UnknownSelector, InvalidParameter
    """
    if isinstance(request.method, MethodSpec):
        name, params = request.method.type, dict(request.method.model_extra or {})
    else:
        name, params = request.method, {}
    return name, params, build_planner(name, params)


class PlanWork:
    """Makes plans. A run that was cut short is made again; graphs that it had built are on disk."""

    def __init__(self, store: Store, registry: PoolRegistry, scoring: ScoringService) -> None:
        self._store = store
        self._registry = registry
        self._scoring = scoring

    def run(
        self, plan_id: str, pool_id: int, params: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Plan, and store the items.

        Parameters
        ----------
        plan_id : str
            The job's id.
        pool_id : int
            The pool's number.
        params : mapping
            ``request``, a `PlanRequest` without its examples, and ``version``, the pool version to wait for.
        progress : Progress
            Told of the phases ``indexing``, ``reading``, ``scoring``, ``graph``, ``planning`` and ``curve``.

        Returns
        -------
        dict
            A `PlanResult`.

        Raises
        ------
        PoolNotFound
            There is no such pool, or not any more.
        InvalidInput
            As `task_of`: the pool has changed since the request. Or no row could be scored.
        KshotError
            The index does not catch up, the embedder or the scorer does not work, or a parser is missing.
        """
        request = PlanRequest.model_validate(params["request"])
        phases = Phases(progress)
        runtime = self._indexed(pool_id, int(params["version"]), phases)
        name, given, planner = planner_of(request)
        phases.begin("reading")
        task = task_of(runtime.index.snapshot, request, planner)
        asked = None
        if request.confidence is not None:
            asked = confidences(task, runtime, self._store, self._scoring, phases.begin("scoring"))
            task = replace(task, confidence=asked.values, notices=[*task.notices, *asked.notices])
        candidates = complete(task.candidates(), task, request, planner, self._store, runtime)
        prepared = _Prepared(task, planner, request.seed, phases)
        order, graphs = prepared.order(candidates, runtime.folder / GRAPHS)
        planned = _within_budget(order, task, planner, request, phases.begin("planning"))
        curve = None
        if request.curve and candidates.vectors is not None and len(planned.indices):
            # Strata and costs make another order than the planner's own, of which only this much is known.
            extends = planner.nested and request.strata is None and request.max_cost is None
            curve = _curve(candidates, name, planned, order if extends else None, request.seed, phases)
        self._store.put_plan_items(plan_id, pool_id, _items(task, planned))
        result = _result(name, given, task, planned, graphs, curve, priced=request.max_cost is not None)
        if asked is not None:
            result = result.model_copy(update={"confidence": asked.info})
        log.info("plan_made", pool=runtime.record.name, method=name, planned=result.planned)
        return result.model_dump(mode="json")

    def _indexed(self, pool_id: int, version: int, phases: Phases) -> PoolRuntime:
        """Wait until the pool's index holds what was stored before the request.

        Raises
        ------
        Unavailable
            It has not come nearer for ten minutes.
        """
        report = phases.begin("indexing")
        best, since = -1, time.monotonic()
        while True:
            runtime = self._registry.get(self._store.get_pool_by_id(pool_id).name)
            runtime.check_embedder()
            snapshot = runtime.index.snapshot
            if snapshot.version >= version:
                return runtime
            if len(snapshot) > best:
                best, since = len(snapshot), time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                raise Unavailable(
                    f"pool {runtime.record.name!r} is indexed up to version {snapshot.version}, wanted "
                    f"{version}; its index has not come nearer for {STALLED_S:g} s"
                )
            report(snapshot.examples, max(self._store.count_live(pool_id), 1))
            time.sleep(_LOOK_EVERY_S)


class _Prepared:
    """One planner over the rows of one task, its graphs built."""

    def __init__(self, task: Task, planner: Planner, seed: int, phases: Phases) -> None:
        self._task = task
        self._planner = planner
        self._seed = seed
        self._phases = phases

    def order(self, candidates: PlanCandidates, folder: Path) -> tuple[Order, list[NeighbourGraph]]:
        """Return the order of the rows, and the graphs that it goes by."""
        task = self._task
        if task.strata is None:
            whole = self._with_graphs([Stratum(None, np.arange(len(candidates)), candidates)], folder)[0]
            graphs = [] if whole.candidates.graph is None else [whole.candidates.graph]
            return whole_order(self._planner, whole.candidates, self._seed), graphs
        parts = []
        for code, name in enumerate(task.stratum_names):
            rows = np.flatnonzero(task.strata == code)
            parts.append(Stratum(name, rows, candidates.take(rows)))
        strata = self._with_graphs(parts, folder)
        graphs = [one.candidates.graph for one in strata if one.candidates.graph is not None]
        return stratified_order(self._planner, strata, self._seed, task.shares), graphs

    def _with_graphs(self, strata: list[Stratum], folder: Path) -> list[Stratum]:
        spec = self._planner.graph
        if spec is None:
            return strata
        report = self._phases.begin("graph")
        found = []
        for place, stratum in enumerate(strata):
            vectors = stratum.candidates.vectors
            is_wanted = vectors is not None and len(vectors) > spec.above_rows
            if is_wanted and stratum.candidates.unlabelled:
                assert vectors is not None
                graph = load_or_build_graph(
                    folder, vectors, spec, _key(vectors), part_of(report, place, len(strata))
                )
                stratum = replace(stratum, candidates=replace(stratum.candidates, graph=graph))  # noqa: PLW2901
            found.append(stratum)
        return found


def _within_budget(
    order: Order, task: Task, planner: Planner, request: PlanRequest, report: Report
) -> Ordered:
    if request.budget is not None:
        return order(request.budget, report)
    assert request.max_cost is not None
    assert task.costs is not None
    rows = np.flatnonzero(~task.part.labelled)
    return within_cost(order, task.costs, request.max_cost, rows, nested=planner.nested, report=report)


def _curve(
    candidates: PlanCandidates, name: str, planned: Ordered, order: Order | None, seed: int, phases: Phases
) -> BudgetCurve:
    assert candidates.vectors is not None
    report: Report = phases.begin("curve")
    extend: Callable[[int], Any] | None = None if order is None else lambda budget: order(budget).picks()
    return budget_curve(
        candidates.vectors,
        planned.picks(),
        candidates.labelled,
        method=name,
        extend=extend,
        seed=seed,
        report=report,
    )


def _items(task: Task, planned: Ordered) -> list[PlanItem]:
    ids = task.ids(planned.indices)
    costs = [None] * len(ids) if task.costs is None else task.costs[planned.indices].tolist()
    strata = (
        [None] * len(ids)
        if task.strata is None
        else [task.stratum_names[code] for code in task.strata[planned.indices].tolist()]
    )
    layers = [None] * len(ids) if planned.layers is None else planned.layers.tolist()
    return [
        PlanItem(rank=rank, example_id=one, gain=gain, cost=cost, stratum=stratum, layer=layer)
        for rank, (one, gain, cost, stratum, layer) in enumerate(
            zip(ids, planned.gains.tolist(), costs, strata, layers, strict=True), start=1
        )
    ]


def _result(
    name: str,
    given: dict[str, Any],
    task: Task,
    planned: Ordered,
    graphs: list[NeighbourGraph],
    curve: BudgetCurve | None,
    *,
    priced: bool,
) -> PlanResult:
    notices = list(task.notices)
    if len(planned.indices) == task.unlabelled:
        notices.append(Notice(code="all_planned", message="every unlabelled example is in the plan"))
    if not len(planned.indices):
        notices.append(
            Notice(code="nothing_affordable", message="no example costs as little as `max_cost`")
            if priced
            else Notice(code="nothing_reached", message="the method reached no example; try another `seed`")
        )
    strata = None
    if task.strata is not None:
        open_counts = np.bincount(task.strata[~task.part.labelled], minlength=len(task.stratum_names))
        counts = np.bincount(task.strata[planned.indices], minlength=len(task.stratum_names))
        strata = [
            StratumResult(value=value, unlabelled=unlabelled, planned=count)
            for value, unlabelled, count in zip(
                task.stratum_names, open_counts.tolist(), counts.tolist(), strict=True
            )
        ]
    graph = None
    if graphs:
        recall = min(one.recall for one in graphs)
        graph = GraphInfo(
            n_neighbors=max(one.n_neighbors for one in graphs),
            center=graphs[0].center,
            exact=recall == 1.0,
            recall=recall,
        )
    return PlanResult(
        method=name,
        parameters=given,
        pool_version=task.snapshot.version,
        labelled=int(np.count_nonzero(task.part.labelled)),
        unlabelled=task.unlabelled,
        planned=len(planned.indices),
        cost=None if task.costs is None else float(task.costs[planned.indices].sum()),
        strata=strata,
        graph=graph,
        diagnostics=planned.diagnostics,
        notices=notices,
        curve=curve,
    )


def _key(vectors: Float32s) -> str:
    """Name rows by their vectors: 0.3 s for 155,000 of 384 dimensions."""
    return hashlib.blake2b(np.ascontiguousarray(vectors).view(np.uint8).data, digest_size=16).hexdigest()
