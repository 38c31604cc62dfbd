"""The scorer of this process: built when first needed, watched, and lent to routes and jobs."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import TypeVar

from kshot.clients.scorers.base import Capabilities, Scorer
from kshot.clients.scorers.factory import ScorerKind
from kshot.errors import KshotError, ScorerUnavailable
from kshot.schemas.scoring import AuditInfo, CanaryInfo, ScoreReply, ScoreRequest, ScorerInfo
from kshot.server.logs import get_logger
from kshot.server.services.scoring.cache import CachedScorer, Count, ScoreStore
from kshot.server.services.scoring.requests import Asked, asked_of, options_of, reply_of, unconditional

T = TypeVar("T")
log = get_logger(__name__)

HINT = (
    "no scorer is configured; start the server with `--scorer-url URL` of a vLLM server (KSHOT_SCORER_URL), "
    "or with KSHOT_SCORER=transformers and KSHOT_SCORER_MODEL"
)
MOST_NATS = 9999.0
"""What is shown of a difference where one way rules a token out; JSON has no word for infinity."""
LOOK_EVERY_S = 15.0
"""Older news of the scorer than this is fetched again when somebody asks for it."""
_TICK_S = 0.25


class ScoringService:
    """Scores for whoever asks.

    A scorer that cannot be built, does not answer or is refused keeps the server from nothing else: what
    needs it raises, and says why.

    Parameters
    ----------
    kind : str
    build : callable or None
        Makes the scorer, in a thread of its own, since it may load a model; None where none is configured.
    store : ScoreStore
    required : bool
        Whether the server is unready without its scorer.
    memory_bytes, store_rows, count, scored
        Of the `CachedScorer`.
    """

    def __init__(
        self,
        kind: ScorerKind,
        build: Callable[[], Scorer | None] | None,
        store: ScoreStore,
        *,
        required: bool,
        memory_bytes: int,
        store_rows: int,
        count: Count,
        scored: Count,
    ) -> None:
        self._kind = kind
        self._build = build
        self._store = store
        self._memory_bytes = memory_bytes
        self._store_rows = store_rows
        self._count = count
        self._scored = scored
        self.required = required
        self._building = asyncio.Lock()
        self._scorer: CachedScorer | None = None
        self._info = ScorerInfo(
            kind=kind,
            state="none" if build is None else "starting",
            detail=HINT if build is None else None,
            required=required,
        )
        self._looked_s = 0.0
        self._look: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to find out what the scorer can do, without waiting for it."""
        self._loop = asyncio.get_running_loop()
        self._refresh()

    async def close(self) -> None:
        """Close the scorer."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        if self._scorer is not None:
            await self._scorer.close()

    def require_configured(self) -> None:
        """Refuse what nobody could score, whatever is waited for.

        Raises
        ------
        ScorerUnavailable
            None is configured; the message says how to do so.
        """
        if self._build is None:
            raise ScorerUnavailable(HINT)

    async def scorer(self) -> CachedScorer:
        """Return the scorer, built if it is not yet.

        Raises
        ------
        ScorerUnavailable
            None is configured; the message says how to do so.
        KshotError
            It cannot be built.
        """
        if self._build is None:
            raise ScorerUnavailable(HINT)
        async with self._building:
            if self._scorer is None:
                built = await asyncio.to_thread(self._build)
                if built is None:
                    raise ScorerUnavailable(HINT)
                self._scorer = CachedScorer(
                    built,
                    self._store,
                    memory_bytes=self._memory_bytes,
                    store_rows=self._store_rows,
                    count=self._count,
                    scored=self._scored,
                )
        return self._scorer

    def require(self) -> None:
        """Refuse at once what could not be scored later.

        Raises
        ------
        ScorerUnavailable
            None is configured, or it was refused when it was looked at last.
        """
        self.require_configured()
        if self._info.state == "refused":
            raise ScorerUnavailable(f"the scorer is refused: {self._info.detail}")

    async def score(self, request: ScoreRequest) -> ScoreReply:
        """Score what a request holds; an item that cannot be scored says so in its place."""
        scorer = await self.scorer()
        asked = asked_of(request)
        options = options_of(request)
        pairs = [pair for one in asked if isinstance(one, Asked) for pair in one.pairs]
        results = await scorer.score_batch(pairs, options)
        base = []
        if base_pairs := unconditional(request, pairs):
            base = await scorer.score_batch(base_pairs, options)
        reply = reply_of(request, await scorer.capabilities(), asked, results, base)
        failed = sum(item.error is not None for item in reply.results)
        log.info("pairs_scored", pairs=len(reply.results), failed=failed)
        return reply

    async def info(self) -> ScorerInfo:
        """Say what the scorer can do, asking it unless it was asked a moment ago."""
        if self._build is not None:
            await asyncio.shield(self._refresh())
        return self._info

    def check(self) -> str | None:
        """Return the scorer's state as it was last seen, and look again if that is long ago.

        None where no scorer is configured. It begins with ``ok`` where scores may be asked for.
        """
        if self._build is None:
            return None
        self._refresh()
        info = self._info
        if info.state == "ok" and info.audit is not None and info.audit.alarm_nats is not None:
            return f"ok; alarm: two ways to score differ by {info.audit.alarm_nats:.2g} nats per token"
        return f"refused: {info.detail}" if info.state == "refused" else info.state

    def run(self, work: Callable[[CachedScorer], Coroutine[None, None, T]], tick: Callable[[], None]) -> T:
        """Use the scorer from a thread other than that of the event loop.

        Parameters
        ----------
        work : callable
            Given the scorer; its coroutine runs in the event loop.
        tick : callable
            Called several times a second; raising in it stops the work.
        """
        assert self._loop is not None

        async def with_scorer() -> T:
            return await work(await self.scorer())

        future = asyncio.run_coroutine_threadsafe(with_scorer(), self._loop)
        try:
            while not wait([future], _TICK_S).done:
                tick()
            return future.result()
        finally:
            future.cancel()

    def _refresh(self) -> "asyncio.Task[None]":
        if self._look is None or (self._look.done() and time.monotonic() - self._looked_s > LOOK_EVERY_S):
            self._look = asyncio.create_task(self._look_at_it())
        return self._look

    async def _look_at_it(self) -> None:
        if self._build is None:
            return
        before = self._info.state
        try:
            found = await (await self.scorer()).capabilities()
        except KshotError as error:
            self._info = ScorerInfo(
                kind=self._kind, state=error.code, detail=error.message, required=self.required
            )
        except Exception as error:
            log.exception("scorer_failed")
            detail = f"{type(error).__name__}; the server's log has the details"
            self._info = ScorerInfo(kind=self._kind, state="internal", detail=detail, required=self.required)
        else:
            self._info = ScorerInfo(
                kind=self._kind,
                state="ok" if found.modes else "refused",
                detail=None if found.modes else "; ".join(found.refusals) or "it gives no likelihoods",
                required=self.required,
                backend=found.backend,
                model=found.model,
                fingerprint=found.fingerprint,
                max_model_tokens=found.max_model_tokens,
                modes=[str(mode) for mode in found.modes],
                tolerance_nats=found.tolerance_nats,
                refusals=list(found.refusals),
                nondeterministic=found.nondeterministic,
                canaries=[
                    CanaryInfo(name=one.name, passed=one.passed, detail=one.detail) for one in found.canaries
                ],
                audit=audit_of(found),
            )
        self._looked_s = time.monotonic()
        if self._info.state != before:
            log.info("scorer_state", state=self._info.state, detail=self._info.detail)


def audit_of(found: Capabilities) -> AuditInfo | None:
    """Return what scoring again found; None where nothing is scored again."""
    audit = found.audit
    if audit is None:
        return None
    finite = {
        name: min(value, MOST_NATS)
        for name, value in (("p99_nats", audit.p99_nats), ("alarm_nats", audit.alarm_nats))
        if value is not None
    }
    return AuditInfo(checked=audit.checked, alarms=audit.alarms, **finite)
