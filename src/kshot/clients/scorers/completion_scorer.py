"""Likelihoods from whatever answers in the words of vLLM's completions interface."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from kshot.arrays import Float64s
from kshot.clients.scorers.assessment import Assessment, Sanity, assess
from kshot.clients.scorers.audit import Audit, other_mode
from kshot.clients.scorers.backend import Backend
from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    Generated,
    NotScored,
    Pair,
    Scored,
    ScoringMode,
    ScoringOptions,
    Text,
)
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.endpoint import Limits
from kshot.clients.scorers.execution import Execution
from kshot.clients.scorers.feeding import begin_all, feed
from kshot.clients.scorers.isolation import Unanswered
from kshot.clients.scorers.passes import ModelChanged, Passes
from kshot.clients.scorers.probing import served_model
from kshot.clients.scorers.server_tokenizer import ServerTokenizer
from kshot.clients.scorers.telemetry import UNTOLD, Telemetry
from kshot.clients.scorers.token_scores import TokenScores
from kshot.clients.scorers.tokenization import LocalTokenizer
from kshot.clients.scorers.tokenizer_file import found_beside
from kshot.clients.scorers.watch import Watch
from kshot.errors import InvalidParameter, ScorerUnavailable, code_to_error

T = TypeVar("T")
log = logging.getLogger(__name__)
_DEFAULTS = ScoringOptions()


class CompletionScorer:
    """A `Scorer` over one back end.

    Asks what it can do before the first score, every hour, whenever it was lost and where another model
    answers; what fails its canaries is refused (`Capabilities.refusals`). Scores that were under way while
    the model changed are asked for again.

    Lifetime: belongs to the event loop that first uses it. Texts appear in no error, log or ``repr``.

    Parameters
    ----------
    backend : Backend
    model : str or None
        As the back end names it; None for its first one.
    tokenizer : LocalTokenizer or None
        The model's own, in this process; None asks the back end for every text.
    end : str or None
        The marker that ends an answer (``terminator="eot"``); None looks for a known one.
    sanity : Sanity
        A context with a good and a bad completion, in the model's language.
    tolerance_nats : float
        By how much equal requests may differ per token, on average.
    max_model_tokens : int or None
        Where the back end does not say it, or to stay below.
    audit_share : float
        Of the scores, that are computed again in another mode, in the background.
    limits : Limits
    clock, rng
        Monotonic seconds and randomness.
    telemetry : Telemetry
        Told what scoring again in another mode finds.
    """

    def __init__(
        self,
        backend: Backend,
        model: str | None,
        *,
        tokenizer: LocalTokenizer | None,
        end: str | None,
        sanity: Sanity,
        tolerance_nats: float,
        max_model_tokens: int | None,
        audit_share: float,
        limits: Limits,
        clock: Callable[[], float],
        rng: random.Random,
        telemetry: Telemetry = UNTOLD,
    ) -> None:
        self._backend = backend
        self._tokenizer = ServerTokenizer(backend)
        self._local = tokenizer
        self._model = model
        self._end = end
        self._sanity = sanity
        self._tolerance_nats = tolerance_nats
        self._max_model_tokens = max_model_tokens
        self._limits = limits
        self._watch = Watch(backend, self._assess, clock)
        self._background: set[asyncio.Task[None]] = set()
        self.audit = Audit(audit_share, rng, telemetry)
        """What scoring again in another mode found."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend!r}, {self._model!r})"

    async def capabilities(self) -> Capabilities:
        """Return what the back end can do.

        Raises
        ------
        ScorerUnavailable
            It does not answer, or does not have the model.
        """
        return replace((await self._watch.assessment()).capabilities, audit=self.audit.report())

    async def score_batch(
        self, pairs: Sequence[Pair], options: ScoringOptions = _DEFAULTS
    ) -> list[Scored | NotScored]:
        """Score pairs; one result each, in their order.

        Raises
        ------
        ScorerUnavailable
            No pair could be scored since the back end does not answer, it is refused, or its models change
            all the time.
        """
        if not pairs:
            return []

        async def score(known: Assessment) -> list[Scored | NotScored]:
            execution = self._execution(known, options.mode)
            fed = await feed(self._tokenizer, known, pairs, options)
            good = [one for one in fed if isinstance(one, Fed)]
            answers = iter(await execution.run(good))
            finished: list[tuple[Fed, TokenScores]] = []
            results: list[Scored | NotScored] = []
            for one in fed:
                answer = next(answers) if isinstance(one, Fed) else one
                if isinstance(one, Fed) and isinstance(answer, TokenScores):
                    finished.append((one, answer))
                    results.append(answer.scored(one, per_token=options.per_token))
                elif isinstance(answer, NotScored):
                    results.append(answer)
            lost = [one for one in results if isinstance(one, Unanswered)]
            if lost and not finished:
                raise ScorerUnavailable(lost[0].message)
            self._audit_one_of(known, finished)
            return results

        return await self._watch.of_one_model(score)

    async def label_logprobs(self, prompts: Sequence[Text], label_token_ids: Sequence[int]) -> Float64s:
        """Return ln p(label | prompt) of single-token labels, in nats, shape (prompts, labels).

        Raises
        ------
        InvalidInput
            A prompt is too long or cannot be tokenised, or a label is no token.
        ScorerUnavailable
            As in `score_batch`, and where one prompt has no answer.
        """
        labels = tuple(label_token_ids)
        if not prompts or not labels:
            return np.empty((len(prompts), len(labels)), dtype=np.float64)

        async def score(known: Assessment) -> Float64s:
            ids = await begin_all(self._tokenizer, known, prompts, room=1)
            execution = self._execution(known, None)
            fed = [
                Fed(context=prompt, completion=(label,), boundary=Boundary.IDS, bytes=0, characters=0)
                for prompt in ids
                for label in labels
            ]
            nats = [_or_raise(answer).nats[0] for answer in await execution.run(fed)]
            return np.array(nats, dtype=np.float64).reshape(len(ids), len(labels))

        return await self._watch.of_one_model(score)

    async def greedy(self, prompts: Sequence[Text], max_tokens: int, stop: str = "\n") -> list[Generated]:
        """Return the greedy answer to each prompt and the mean log-probability of its tokens.

        Raises
        ------
        InvalidInput
            A prompt leaves no room for the answer, or cannot be tokenised.
        ScorerUnavailable
            As in `label_logprobs`.
        """
        if max_tokens < 1:
            raise InvalidParameter(f"max_tokens is {max_tokens}, allowed >= 1")
        if not prompts:
            return []

        async def answer(known: Assessment) -> list[Generated]:
            ids = await begin_all(self._tokenizer, known, prompts, room=max_tokens)
            passes = self._passes(known)
            return [
                Generated(
                    text=one.text, tokens=len(one.nats), mean_nats=sum(one.nats) / max(len(one.nats), 1)
                )
                for one in map(_or_raise, await passes.generate(ids, max_tokens, stop))
            ]

        return await self._watch.of_one_model(answer)

    async def close(self) -> None:
        """Let go of the back end; a second call does nothing."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._backend.close()

    async def _assess(self) -> Assessment:
        self._tokenizer.forget()
        await self._use_local_tokenizer()
        return await assess(
            self._backend,
            tokenizer=self._tokenizer,
            model=self._model,
            end=self._end,
            sanity=self._sanity,
            tolerance_nats=self._tolerance_nats,
            max_model_tokens=self._max_model_tokens,
        )

    async def _use_local_tokenizer(self) -> None:
        """Tokenise in this process where that is known to give what the server's tokenizer does."""
        if self._local is not None:
            if not await self._tokenizer.use(self._local, unseen=True):
                log.warning("the scorer's tokenizer is not the served model's; the server is asked instead")
            return
        served = await served_model(self._backend, self._model)
        beside = await asyncio.to_thread(found_beside, served.root)
        if beside is not None:
            await self._tokenizer.use(beside)

    def _passes(self, known: Assessment) -> Passes:
        return Passes(
            self._backend,
            known.capabilities.model,
            known.dialect,
            self._limits,
            block_tokens=known.block_tokens,
        )

    def _execution(self, known: Assessment, mode: ScoringMode | None) -> Execution:
        modes = known.capabilities.modes
        if mode is not None and mode not in modes:
            reasons = "; ".join(known.capabilities.refusals)
            raise ScorerUnavailable(f"mode {mode.value!r} is refused: {reasons}")
        return Execution(
            passes=self._passes(known),
            modes=modes if mode is None else (mode,),
            forced=not known.dialect.label_form,
            longest_read=self._limits.longest_read,
            block_tokens=known.block_tokens,
        )

    def _audit_one_of(self, known: Assessment, finished: Sequence[tuple[Fed, TokenScores]]) -> None:
        drawn = self.audit.draw(len(finished))
        if drawn is None:
            return
        fed, scores = finished[drawn]
        mode = other_mode(fed, scores.mode, known.capabilities.modes)
        if mode is not None:
            task = asyncio.create_task(self._score_again(known, fed, scores, mode))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _score_again(self, known: Assessment, fed: Fed, scores: TokenScores, mode: ScoringMode) -> None:
        try:
            (again,) = await self._execution(known, mode).run([fed])
        except (ModelChanged, ScorerUnavailable):
            return
        if isinstance(again, TokenScores):
            pairs = zip(again.nats, scores.nats, strict=True)
            apart = [0.0 if one == other else abs(one - other) for one, other in pairs]
            self.audit.record(sum(apart) / len(apart))
        if self.audit.alarming:
            self.audit.start_over()
            self._watch.outdate()


def _or_raise(answer: T | NotScored) -> T:
    if isinstance(answer, NotScored):
        raise code_to_error()[answer.code](answer.message)
    return answer
