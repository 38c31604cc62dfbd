"""Tuning: a pool's token layer and fused weights, chosen by how well neighbours agree with the labels."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from kshot.clients.embedders.base import check_token_layer
from kshot.errors import Conflict, FieldError, InvalidParameter
from kshot.index.labelled_sample import draw
from kshot.index.store import Store
from kshot.schemas.operations import JobInfo
from kshot.schemas.pools import PoolPatch
from kshot.schemas.tuning import Estimate, TunedRelevance, TuneRequest, TuneResult, TuneStep
from kshot.selectors.tuning import Interval, choose, intervals
from kshot.server.logs import get_logger
from kshot.server.selectors_schema import build_selector
from kshot.server.services.agreement import Candidate, Measured, measure
from kshot.server.services.jobs import SWITCHING, TUNE, JobRunner, to_info
from kshot.server.services.pools import PoolService
from kshot.server.services.progress import Progress
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime

log = get_logger(__name__)


class Tuning:
    """Starts tuning jobs for the routes, and runs them.

    A job that was cut short measures anew. It changes settings only at its end, and only as a PATCH would.
    """

    def __init__(self, store: Store, registry: PoolRegistry, jobs: JobRunner, pools: PoolService) -> None:
        self._store = store
        self._registry = registry
        self._jobs = jobs
        self._pools = pools

    async def start(self, pool: str, request: TuneRequest) -> JobInfo:
        """Queue a job that tunes a pool."""
        return await asyncio.to_thread(self._start, pool, request)

    def _start(self, pool: str, request: TuneRequest) -> JobInfo:
        runtime = self._registry.get(pool)
        runtime.check_embedder()
        _other_layers(runtime, request)
        # Refused at once rather than by a job that fails.
        draw(
            runtime.index.snapshot,
            request.queries,
            request.k,
            request.exclude_splits,
            _generator(request),
        )
        job = self._jobs.submit(TUNE, runtime.record.id, request.model_dump(mode="json"))
        return to_info(job, {runtime.record.id: runtime.record.name})

    def run(self, pool_id: int, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Measure, choose and, if the request says so, change the pool's settings.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        params : mapping
            A `TuneRequest`.
        progress : Progress
            Told of the phases ``scoring`` and, before settings change, ``switching``.

        Returns
        -------
        dict
            A `TuneResult`.

        Raises
        ------
        PoolNotFound
            There is no such pool, or not any more.
        Conflict
            What was measured is not what the pool has at the end, or the pool is being embedded anew.
        KshotError
            As `measure`.
        """
        request = TuneRequest.model_validate(params)
        runtime = self._registry.get(self._store.get_pool_by_id(pool_id).name)
        runtime.check_embedder()
        measured = measure(self._store, runtime, _other_layers(runtime, request), request, progress)
        chosen, result = _decide(request, measured)
        if chosen is not None:
            result = result.model_copy(update={"settings": _settings(runtime, chosen)})
            if request.apply:
                progress(len(measured.sample.rows), len(measured.sample.rows), SWITCHING)
                present = self._still(runtime)
                body = PoolPatch(settings=_settings(present, chosen))
                job_id = self._pools.change(present.record.name, body).job_id
                result = result.model_copy(update={"applied": True, "job_id": job_id})
        log.info("pool_tuned", pool=runtime.record.name, settings=[*result.settings], applied=result.applied)
        return result.model_dump(mode="json")

    def _still(self, measured: PoolRuntime) -> PoolRuntime:
        """Return the pool as it is now, after checking that it is what was measured."""
        present = self._registry.get(measured.record.name)
        if _identity(present) != _identity(measured):
            raise Conflict(
                f"pool {measured.record.name!r} has other settings now than were measured; tune it again"
            )
        return present


def _identity(runtime: PoolRuntime) -> tuple[Any, ...]:
    """Name what agreement depends on."""
    return runtime.record.id, runtime.folder, runtime.settings.label_field, _fused(runtime)


def _other_layers(runtime: PoolRuntime, request: TuneRequest) -> list[int]:
    """Return the token layers to compare with the present one."""
    embedder = runtime.embedder
    wanted = request.layers
    if wanted is None:
        last, usual = embedder.token_layers, embedder.default_token_layer
        if last is None or usual is None:
            return []
        wanted = [usual, last, last // 2, (usual + last) // 2]
    for place, layer in enumerate(wanted):
        try:
            check_token_layer(layer, embedder.token_layers)
        except InvalidParameter as error:
            errors = [FieldError(f"/layers/{place}", error.message)]
            raise InvalidParameter(error.message, errors=errors) from None
    return [layer for layer in dict.fromkeys(wanted) if layer != runtime.token_layer]


def _decide(request: TuneRequest, measured: Measured) -> tuple[Candidate | None, TuneResult]:
    """Choose the weights first; then a layer, which costs embedding the pool again, has to beat them."""
    trial, whole = measured.trial, measured.agreements.whole
    found = intervals(whole, _generator(request), overlap=trial.overlap)
    compared = [*map(_relevance, measured.candidates, found)]
    stages: list[tuple[Literal["weights", "token_layer"], int]] = [("weights", measured.keeping_layer)]
    if len(compared) > measured.keeping_layer:
        stages.append(("token_layer", len(compared)))
    best, held_out = 0, whole[0]
    steps = []
    for compares, m in stages:
        choice = choose(measured.agreements.first(m), trial, best, _generator(request))
        accepted = choice.is_better and (compares == "weights" or choice.best >= measured.keeping_layer)
        steps.append(
            TuneStep(
                compares=compares, best=compared[choice.best], gain=_estimate(choice.gain), accepted=accepted
            )
        )
        if accepted:
            best, held_out = choice.best, choice.held_out
    after = None
    if best:
        (honest,) = intervals(held_out[None, :], _generator(request), overlap=trial.overlap)
        after = _relevance(measured.candidates[best], honest)
    result = TuneResult(
        pool_version=measured.pool_version,
        k=request.k,
        queries=len(measured.sample.queries),
        rows=len(measured.sample.rows),
        labels=measured.sample.labels,
        before=compared[0],
        after=after,
        steps=steps,
        compared=sorted(compared, key=lambda one: -one.agreement.mean),
        settings={},
        applied=False,
        job_id=None,
    )
    return (measured.candidates[best] if best else None), result


def _settings(runtime: PoolRuntime, chosen: Candidate) -> dict[str, Any]:
    """Return the settings that differ under a candidate, each one whole."""
    changed: dict[str, Any] = {}
    if chosen.token_layer != runtime.token_layer:
        changed["token_layer"] = chosen.token_layer
    select = runtime.settings.select
    weights = {signal.value: weight for signal, weight in chosen.weights.items()}
    fused = {**_fused(runtime), **weights}
    if build_selector("fused", fused) != build_selector("fused", _fused(runtime)):
        params = {**select.params, "fused": fused}
        changed["select"] = {**select.model_dump(mode="json"), "params": params}
    return changed


def _fused(runtime: PoolRuntime) -> dict[str, Any]:
    return runtime.settings.select.params.get("fused", {})


def _generator(request: TuneRequest) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(request.seed))


def _relevance(candidate: Candidate, agreement: Interval) -> TunedRelevance:
    weights = {signal.value: weight for signal, weight in candidate.weights.items()}
    return TunedRelevance(token_layer=candidate.token_layer, weights=weights, agreement=_estimate(agreement))


def _estimate(interval: Interval) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high)
