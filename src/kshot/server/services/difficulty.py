"""Difficulty: how unlikely a model finds the answer of each example, given its question and nothing else."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kshot.arrays import Int64s
from kshot.clients.scorers.base import Capabilities, NotScored, Pair, Scored
from kshot.errors import InvalidInput
from kshot.formatting import Prompt
from kshot.index.answer_scores import AnswerTable
from kshot.index.snapshot import Snapshot
from kshot.index.store import Store
from kshot.records import Example, canonical_json
from kshot.schemas.difficulty import DifficultyRequest, DifficultyResult, Spread
from kshot.schemas.operations import JobInfo
from kshot.schemas.pools import PoolPatch
from kshot.server.logs import get_logger
from kshot.server.services.assembly import shown_labels
from kshot.server.services.jobs import DIFFICULTY, JobRunner, to_info
from kshot.server.services.pools import PoolService
from kshot.server.services.progress import Progress
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.answers import gap_before_answer
from kshot.server.services.scoring.cache import CachedScorer
from kshot.server.services.scoring.service import ScoringService

log = get_logger(__name__)
SCORING = "scoring"
ROWS_AT_ONCE = 64
"""After so many examples their scores are remembered, so that work that was cut short is not done again."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of a number of examples."""

    seqs: list[int]
    nats: list[float]
    tokens: list[int]
    failures: list[str]


class Difficulty:
    """Starts difficulty jobs for the routes, and runs them.

    What was said of the answers is replaced as a whole at the end of a job: numbers of two models, or of two
    prompts, are never side by side.
    """

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        jobs: JobRunner,
        pools: PoolService,
        scoring: ScoringService,
    ) -> None:
        self._store = store
        self._registry = registry
        self._jobs = jobs
        self._pools = pools
        self._scoring = scoring

    async def start(self, pool: str, request: DifficultyRequest) -> JobInfo:
        """Queue a job that scores a pool's answers."""
        runtime = self._registry.get(pool)
        self._scoring.require()
        _answered(runtime)
        return await asyncio.to_thread(self._submit, runtime, request)

    def _submit(self, runtime: PoolRuntime, request: DifficultyRequest) -> JobInfo:
        job = self._jobs.submit(DIFFICULTY, runtime.record.id, request.model_dump(mode="json"))
        return to_info(job, {runtime.record.id: runtime.record.name})

    def run(self, pool_id: int, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Score every answer that is not known yet and, if the request says so, change the pool's settings.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        params : mapping
            A `DifficultyRequest`.
        progress : Progress
            Told of the phase ``scoring``.

        Returns
        -------
        dict
            A `DifficultyResult`.

        Raises
        ------
        PoolNotFound
            There is no such pool, or not any more.
        ScorerUnavailable
            There is no scorer, or it does not answer.
        InvalidInput
            No example has outputs, or none could be scored.
        """
        request = DifficultyRequest.model_validate(params)
        runtime = self._registry.get(self._store.get_pool_by_id(pool_id).name)
        snapshot, seqs = _answered(runtime)
        capabilities = self._scoring.run(CachedScorer.capabilities, lambda: progress(0, len(seqs), SCORING))
        system = runtime.templates.system(runtime.record.name, shown_labels(snapshot))
        key = _key(runtime, capabilities, system)
        scores = runtime.index.answer_scores
        before = scores.table if scores.table.key == key else AnswerTable.nothing(key)
        _, is_known = before.places(seqs)
        found = self._scored(runtime, system, seqs[~is_known], len(seqs), progress)
        table = _joined(before, seqs[is_known], found)
        if not len(table.seqs):
            raise InvalidInput(f"no example could be scored: {next(iter(found.failures), 'all are gone')}")
        self._store.get_pool_by_id(pool_id)
        scores.replace(table)
        settings = {"difficulty_field": request.measure}
        if runtime.settings.difficulty_field == request.measure:
            settings = {}
        if request.apply and settings:
            self._pools.change(runtime.record.name, PoolPatch(settings=settings))
        numbers = table.numbers(request.measure)
        log.info("difficulty_measured", pool=runtime.record.name, examples=len(seqs))
        return DifficultyResult(
            pool_version=snapshot.version,
            model=capabilities.model,
            fingerprint=capabilities.fingerprint,
            examples=len(seqs),
            scored=len(found.seqs),
            kept=int(np.count_nonzero(is_known)),
            failed=len(found.failures),
            failure=next(iter(found.failures), None),
            measure=request.measure,
            difficulty=Spread(
                least=float(numbers.min()),
                median=float(np.median(numbers)),
                largest=float(numbers.max()),
            ),
            settings=settings,
            applied=request.apply,
        ).model_dump(mode="json")

    def _scored(
        self, runtime: PoolRuntime, system: str | None, seqs: Int64s, total: int, progress: Progress
    ) -> _Found:
        done = _Found([], [], [], [])
        known = total - len(seqs)
        for start in range(0, len(seqs), ROWS_AT_ONCE):
            tick = partial(progress, known + start, total, SCORING)
            tick()
            some = seqs[start : start + ROWS_AT_ONCE].tolist()
            # One that was erased meanwhile is left out.
            examples = self._store.get_examples_by_seq(runtime.record.id, some)
            pairs = [_pair(runtime, system, one) for one in examples]
            results = self._scoring.run(partial(_ask, pairs=pairs), tick)
            for example, result in zip(examples, results, strict=True):
                if isinstance(result, Scored):
                    done.seqs.append(example.seq)
                    done.nats.append(result.sum_nats)
                    done.tokens.append(result.tokens)
                elif isinstance(result, NotScored):
                    done.failures.append(result.message)
        progress(total, total, SCORING)
        return done


def _answered(runtime: PoolRuntime) -> tuple[Snapshot, Int64s]:
    """Return the versions of the examples that have an answer, ascending."""
    snapshot = runtime.index.snapshot
    seqs = np.sort(snapshot.seqs[snapshot.annotated])
    if not len(seqs):
        raise InvalidInput(f"no example of pool {runtime.record.name!r} has outputs, so none has an answer")
    return snapshot, seqs


def _key(runtime: PoolRuntime, capabilities: Capabilities, system: str | None) -> str:
    """Name all that the numbers depend on beside the examples."""
    prompt = runtime.settings.prompt.model_dump(mode="json", exclude={"system"})
    parts = canonical_json([capabilities.fingerprint, prompt, system])
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _pair(runtime: PoolRuntime, system: str | None, example: Example) -> Pair:
    """Ask for the answer of an example as that of a prompt without demonstrations."""
    templates = runtime.templates
    turn = templates.turn(example.inputs, example.outputs, example.metadata)
    query = templates.query(example.inputs)
    context = Prompt([], query, system, templates.separator).text()
    return Pair(context=context, completion=gap_before_answer(turn, query.text) + turn.output)


async def _ask(scorer: CachedScorer, pairs: Sequence[Pair]) -> list[Scored | NotScored]:
    return await scorer.score_batch(pairs)


def _joined(before: AnswerTable, kept: Sequence[int] | Int64s, found: _Found) -> AnswerTable:
    """Put what is known of examples that are still there beside what is new."""
    places, is_there = before.places(np.asarray(kept, np.int64))
    places = places[is_there]
    seqs = np.concatenate([before.seqs[places], np.array(found.seqs, np.int64)])
    order = np.argsort(seqs)
    return AnswerTable(
        before.key,
        seqs[order],
        np.concatenate([before.nats[places], np.array(found.nats)])[order],
        np.concatenate([before.tokens[places], np.array(found.tokens, np.int64)])[order],
    )
