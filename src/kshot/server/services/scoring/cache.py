"""A scorer that asks another one only for what nobody has asked before."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from kshot.arrays import Float64s
from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    Generated,
    NotScored,
    Pair,
    Scored,
    Scorer,
    ScoringMode,
    ScoringOptions,
    Text,
)
from kshot.errors import KshotError, ScorerUnavailable
from kshot.records import ScoreRecord
from kshot.server.logs import get_logger
from kshot.server.services.scoring.keys import PairKeys, greedy_key, label_keys
from kshot.server.services.scoring.memory import RecentScores

log = get_logger(__name__)
_PURGE_EVERY = 2_000
_DEFAULTS = ScoringOptions()
Count = Callable[[str, int], None]


class ScoreStore(Protocol):
    """Where scores outlive the process, such as `kshot.index.store.Store`; blocks."""

    def get_scores(self, keys: Sequence[bytes]) -> Mapping[bytes, ScoreRecord]:
        """Return the scores that are remembered under some of the keys."""
        ...

    def put_scores(self, records: Iterable[ScoreRecord]) -> None:
        """Remember scores."""
        ...

    def purge_scores(self, keep: int) -> int:
        """Forget the oldest beyond ``keep``."""
        ...


def _uncounted(outcome: str, number: int) -> None:
    pass


class CachedScorer:
    """Remembers scores in memory and in the store; otherwise as the scorer it wraps.

    A score is found again whatever the mode and the grouping it is asked in, by model, context, completion
    and boundary; its own mode is told. Failures are not remembered, and what a scorer answers that has
    changed its model meanwhile is not either. Where the store fails, scores are computed.

    Parameters
    ----------
    scorer : Scorer
        Closed with this one.
    store : ScoreStore or None
        None remembers in memory only.
    memory_bytes : int
        0 remembers in the store only.
    store_rows : int
        Scores beyond this number are forgotten, the oldest first, at intervals; 0 uses no store.
    count : callable
        Told how many scores were found in ``memory`` or in the ``store``, and how many were a ``miss``.
    scored : callable
        Told how many completions the scorer was asked for, by mode or by the code of what was wrong.
    """

    def __init__(
        self,
        scorer: Scorer,
        store: ScoreStore | None = None,
        *,
        memory_bytes: int = 32 * 2**20,
        store_rows: int = 1_000_000,
        count: Count = _uncounted,
        scored: Count = _uncounted,
    ) -> None:
        self._scorer = scorer
        self._store = store if store_rows else None
        self._recent = RecentScores(memory_bytes)
        self._store_rows = store_rows
        self._count = count
        self._scored = scored
        self._unpurged = _PURGE_EVERY

    async def capabilities(self) -> Capabilities:
        """Return what the back end can do."""
        return await self._scorer.capabilities()

    async def score_batch(
        self, pairs: Sequence[Pair], options: ScoringOptions = _DEFAULTS
    ) -> list[Scored | NotScored]:
        """Score pairs; one result each, in their order. Equal pairs are asked for once.

        Raises
        ------
        ScorerUnavailable
            Also where all scores are remembered: whether they still hold is for the back end to say.
        """
        capabilities = await self._trusted()
        keys_of = PairKeys(capabilities, options, pairs)
        keys = [keys_of.key(pair) for pair in pairs]

        def serves(record: ScoreRecord) -> bool:
            return record.per_token is not None or not options.per_token

        found = await self._look_up(keys, serves)
        missing = {pair.context for key, pair in zip(keys, pairs, strict=True) if key not in found}
        key_to_pair = {
            key: pair
            for key, pair in zip(keys, pairs, strict=True)
            if key not in found or (pair.context in missing and keys_of.belong_together(pair.context))
        }
        fresh: dict[bytes, Scored | NotScored] = {}
        if key_to_pair:
            answers = await self._scorer.score_batch(list(key_to_pair.values()), options)
            fresh = dict(zip(key_to_pair, answers, strict=True))
            outcomes = (one.mode.value if isinstance(one, Scored) else one.code for one in answers)
            for outcome, number in Counter(outcomes).items():
                self._scored(outcome, number)
            records = [_record(key, one) for key, one in fresh.items() if isinstance(one, Scored)]
            await self._keep(records, capabilities.fingerprint)
        return [fresh[key] if key in fresh else _scored(found[key], options) for key in keys]

    async def label_logprobs(self, prompts: Sequence[Text], label_token_ids: Sequence[int]) -> Float64s:
        """Return ln p(label | prompt) of single-token labels, in nats, shape (prompts, labels)."""
        capabilities = await self._trusted()
        labels = tuple(label_token_ids)
        rows = [label_keys(capabilities.fingerprint, prompt, labels) for prompt in prompts]
        found = await self._look_up([key for row in rows for key in row])
        incomplete = [place for place, row in enumerate(rows) if any(key not in found for key in row)]
        values = np.array(
            [[found[key].nats if key in found else math.nan for key in row] for row in rows], np.float64
        ).reshape(len(rows), len(labels))
        if incomplete:
            wanted = [prompts[place] for place in incomplete]
            values[incomplete] = await self._scorer.label_logprobs(wanted, labels)
            records = [
                _number(key, nats, Boundary.IDS, ScoringMode.LABEL)
                for place in incomplete
                for key, nats in zip(rows[place], values[place].tolist(), strict=True)
            ]
            await self._keep(records, capabilities.fingerprint)
        return values

    async def greedy(self, prompts: Sequence[Text], max_tokens: int, stop: str = "\n") -> list[Generated]:
        """Return the greedy answer to each prompt; texts are not remembered."""
        return await self._scorer.greedy(prompts, max_tokens, stop)

    async def greedy_mean_nats(self, prompts: Sequence[Text], max_tokens: int, stop: str = "\n") -> Float64s:
        """Return the mean log-probability of the tokens of each greedy answer; NaN for one without any."""
        capabilities = await self._trusted()
        keys = [greedy_key(capabilities.fingerprint, prompt, max_tokens, stop) for prompt in prompts]
        found = await self._look_up(keys)
        key_to_prompt = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        if key_to_prompt:
            answers = await self._scorer.greedy(list(key_to_prompt.values()), max_tokens, stop)
            records = [
                # Of an answer without tokens there is no mean.
                _number(key, one.mean_nats if one.tokens else math.nan, Boundary.SEPARATE, ScoringMode.LABEL)
                for key, one in zip(key_to_prompt, answers, strict=True)
            ]
            found |= {record.key: record for record in records}
            await self._keep(records, capabilities.fingerprint)
        return np.array([found[key].nats for key in keys], np.float64)

    async def close(self) -> None:
        """Close the scorer; the store stays open."""
        await self._scorer.close()

    async def _trusted(self) -> Capabilities:
        capabilities = await self._scorer.capabilities()
        if not capabilities.modes:
            reasons = "; ".join(capabilities.refusals) or "it gives no likelihoods"
            raise ScorerUnavailable(f"the scorer is refused: {reasons}")
        return capabilities

    async def _look_up(
        self, keys: Sequence[bytes], serves: Callable[[ScoreRecord], bool] = lambda _: True
    ) -> dict[bytes, ScoreRecord]:
        """Return the remembered scores that serve, and count them, and those there are none of."""
        wanted = list(dict.fromkeys(keys))
        recent = {key: record for key in wanted if (record := self._recent.get(key)) and serves(record)}
        self._count("memory", len(recent))
        absent = [key for key in wanted if key not in recent]
        stored: dict[bytes, ScoreRecord] = {}
        if absent and self._store is not None:
            try:
                read = await asyncio.to_thread(self._store.get_scores, absent)
            except KshotError as error:
                log.warning("scores_not_read", code=error.code)
            else:
                stored = {key: record for key, record in read.items() if serves(record)}
                for record in stored.values():
                    self._recent.put(record)
        self._count("store", len(stored))
        self._count("miss", len(absent) - len(stored))
        return recent | stored

    async def _keep(self, records: Sequence[ScoreRecord], fingerprint: str) -> None:
        records = [record for record in records if not math.isnan(record.nats)]
        # Of two models, which one answered is not known.
        if not records or (await self._scorer.capabilities()).fingerprint != fingerprint:
            return
        for record in records:
            self._recent.put(record)
        if self._store is None:
            return
        try:
            await asyncio.to_thread(self._write, self._store, records)
        except KshotError as error:
            log.warning("scores_not_kept", code=error.code)

    def _write(self, store: ScoreStore, records: Sequence[ScoreRecord]) -> None:
        store.put_scores(records)
        self._unpurged += len(records)
        if self._unpurged >= _PURGE_EVERY:
            self._unpurged = 0
            if forgotten := store.purge_scores(self._store_rows):
                log.info("scores_forgotten", scores=forgotten)


def _record(key: bytes, scored: Scored) -> ScoreRecord:
    return ScoreRecord(
        key=key,
        nats=scored.sum_nats,
        tokens=scored.tokens,
        bytes=scored.bytes,
        characters=scored.characters,
        boundary=str(scored.boundary),
        mode=str(scored.mode),
        greedy=scored.greedy,
        dropped=scored.dropped,
        dropped_demonstrations=scored.dropped_demonstrations,
        lossy=scored.lossy,
        per_token=scored.per_token,
    )


def _scored(record: ScoreRecord, options: ScoringOptions) -> Scored:
    return Scored(
        sum_nats=record.nats,
        tokens=record.tokens,
        bytes=record.bytes,
        characters=record.characters,
        boundary=Boundary(record.boundary),
        mode=ScoringMode(record.mode),
        per_token=record.per_token if options.per_token else None,
        greedy=record.greedy,
        dropped=record.dropped,
        dropped_demonstrations=record.dropped_demonstrations,
        lossy=record.lossy,
        cached=True,
    )


def _number(key: bytes, nats: float, boundary: Boundary, mode: ScoringMode) -> ScoreRecord:
    return ScoreRecord(
        key=key, nats=nats, tokens=1, bytes=0, characters=0, boundary=str(boundary), mode=str(mode)
    )
