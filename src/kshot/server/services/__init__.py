"""One service per flow; `build_services` is the one place that constructs and joins them."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from pydantic import SecretStr

from kshot.clients.scorers.base import Scorer
from kshot.clients.scorers.factory import build_scorer
from kshot.clients.scorers.telemetry import Telemetry
from kshot.index.store import Store
from kshot.schemas.operations import Readiness
from kshot.server.metrics import Metrics
from kshot.server.services.annotations import AnnotationService
from kshot.server.services.difficulty import Difficulty
from kshot.server.services.examples import ExampleService
from kshot.server.services.indexing import Indexer
from kshot.server.services.jobs import DIFFICULTY, PLAN, REEMBED, TUNE, JobRunner, JobService, Work
from kshot.server.services.learning.evaluation import EvaluationService
from kshot.server.services.learning.feedback import FeedbackService
from kshot.server.services.learning.loop import LearningLoop
from kshot.server.services.learning.metrics import MetricService
from kshot.server.services.learning.report import ReportService
from kshot.server.services.planning.service import PlanService
from kshot.server.services.planning.work import PlanWork
from kshot.server.services.pools import PoolService
from kshot.server.services.prompts import PromptService
from kshot.server.services.reembedding import Reembedding
from kshot.server.services.registry import Embedders, PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.service import ScoringService
from kshot.server.services.selection import SelectionService
from kshot.server.services.selection_log import SelectionLog
from kshot.server.services.tuning import Tuning
from kshot.server.services.waiting import Publications
from kshot.server.settings import Settings


class Services:
    """Everything behind the routes. `start` comes before the first request, `close` after the last."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        make_scorer: Callable[[], Scorer | None] | None = None,
    ) -> None:
        self._metrics = metrics
        self.store = Store(settings.store_url)
        self._embedders = Embedders(
            threads=settings.threads,
            cache_dir=settings.cache_dir,
            query_cache_bytes=settings.query_cache_bytes,
        )
        self.registry = PoolRegistry(self.store, self._embedders, settings.data_dir / "pools")
        self._publications = Publications()
        self.indexer = Indexer(self.store, self.registry, self._publications, self._published)
        reembedding = Reembedding(self.store, self.registry, self.indexer)
        self._runner = JobRunner(self.store, self.registry)
        self.selection_log = SelectionLog(self.store, self.registry)
        self.pools = PoolService(
            self.store, self.registry, self._embedders, self.indexer, reembedding, self._runner, metrics
        )
        self.examples = ExampleService(self.store, self.registry, self.indexer, self._publications)
        self.annotations = AnnotationService(self.store, self.registry, self.indexer, self._publications)
        self.scoring = ScoringService(
            settings.scorer_kind,
            make_scorer or scorer_maker(settings, metrics),
            self.store,
            required=settings.scorer_required,
            memory_bytes=settings.score_cache_bytes,
            store_rows=settings.score_cache_rows,
            count=metrics.scores_looked_up,
            scored=metrics.scores_computed,
        )
        self.prompts = PromptService(self.store)
        # The shell's own counters are `self._metrics`; these are what outcomes are measured in.
        self.metrics = MetricService(self.store)
        self.learning = LearningLoop(self.store, self.registry, self._embedders, self.prompts, metrics)
        self.policies = self.learning.policies
        self.decisions = self.learning.decisions
        self.selections = SelectionService(
            self.store,
            self.registry,
            self.selection_log,
            metrics,
            self.scoring,
            self.decisions,
            concurrency=settings.select_concurrency,
            queue=settings.select_queue,
            scorer_tokens=settings.scorer_query_tokens,
        )
        self.reports = ReportService(self.store, self.learning.states)
        self.evaluations = EvaluationService(self.store, self.learning.states)
        self.feedback = FeedbackService(
            self.store, self.registry, self.examples, self.selection_log, self.decisions
        )
        self.jobs = JobService(self.store, self._runner)
        self.plans = PlanService(
            self.store, self.registry, self._runner, self.jobs, self.examples, self.scoring
        )
        self.tuning = Tuning(self.store, self.registry, self._runner, self.pools)
        self.difficulty = Difficulty(self.store, self.registry, self._runner, self.pools, self.scoring)
        self._kind_to_work: Mapping[str, Work] = {
            REEMBED: lambda _, pool_id, params, progress: reembedding.run(
                pool_id, params["settings"], progress
            ),
            PLAN: PlanWork(self.store, self.registry, self.scoring).run,
            TUNE: lambda _, pool_id, params, progress: self.tuning.run(pool_id, params, progress),
            DIFFICULTY: lambda _, pool_id, params, progress: self.difficulty.run(pool_id, params, progress),
        }

    @property
    def idempotency(self) -> Store:
        """Where idempotency keys are kept."""
        return self.store

    async def start(self) -> None:
        """Open every pool, reconcile it with the store, and start the threads."""
        await asyncio.to_thread(self._recover)
        await self.scoring.start()
        self.indexer.start()
        self.selection_log.start()
        await asyncio.to_thread(self.learning.start)
        self._runner.start(self._kind_to_work)

    async def close(self) -> None:
        """Flush what waits and stop; a second call does nothing."""
        await asyncio.to_thread(self._stop_threads)
        await self.scoring.close()
        await self._embedders.close()
        self.store.close()

    async def readiness(self) -> Readiness:
        """Check the store and the pools; a pool's check is the code of what is wrong with it."""
        checks = {"store": "ok"}
        try:
            await asyncio.to_thread(self.store.list_pools)
        except Exception as error:  # noqa: BLE001  (whatever it is, the store does not answer)
            checks["store"] = type(error).__name__
        problems = {**self.registry.problems(), **self.indexer.problems()}
        checks |= {f"pool {name}": error.code for name, error in problems.items()}
        ready = all(state == "ok" for state in checks.values())
        scorer = self.scoring.check()
        if scorer is not None:
            # What needs no likelihoods works without it.
            checks["scorer"] = scorer
            ready = ready and (scorer.startswith("ok") or not self.scoring.required)
        return Readiness(ready=ready, checks=checks)

    def _recover(self) -> None:
        self.registry.remove_orphaned_files()
        for runtime in self.registry.open_all():
            self.indexer.recover(runtime)

    def _stop_threads(self) -> None:
        self._publications.close()
        self.learning.close()
        self.selections.close()
        self._runner.close()
        self.indexer.close()
        self.selection_log.close()

    def _published(self, runtime: PoolRuntime) -> None:
        self._metrics.index_holds(runtime.record.name, runtime.index.snapshot.examples)
        self._metrics.queue_holds("indexing", self.indexer.depth)


def scorer_maker(settings: Settings, metrics: Metrics) -> Callable[[], Scorer | None] | None:
    """Return what makes the scorer that the settings name; None if they name none."""
    if settings.scorer_kind == "none":
        return None
    return partial(
        build_scorer,
        settings.scorer_kind,
        settings.scorer_url,
        settings.scorer_model,
        _revealed(settings.scorer_key),
        tokenizer=settings.scorer_tokenizer,
        cache_salt=_revealed(settings.scorer_cache_salt),
        priority=settings.scorer_priority,
        telemetry=Telemetry(
            requested=metrics.scorer_asked, audited=metrics.scorer_audited, alarmed=metrics.scorer_alarmed
        ),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def build_services(settings: Settings, metrics: Metrics) -> Services:
    """Construct the services of one process; the caller holds the data folder's lock."""
    return Services(settings, metrics)
