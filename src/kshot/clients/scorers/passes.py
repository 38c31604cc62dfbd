"""Ask for many prompts at once: in what order, how many per request, and what came back for each."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kshot.clients.scorers import wire
from kshot.clients.scorers.backend import COMPLETIONS, Backend
from kshot.clients.scorers.base import NotScored, Tokens
from kshot.clients.scorers.endpoint import Limits, Rejected
from kshot.clients.scorers.isolation import Unanswered, isolated
from kshot.clients.scorers.waves import calls, waves
from kshot.errors import PayloadTooLarge, ScorerUnavailable

MOST_READ_TOKENS = 32_768
"""Of one request that reads whole prompts: its answer has a hundred bytes for each."""


class ModelChanged(Exception):
    """Another model than expected answers."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which of some token ids comes after a prompt."""

    prompt: Tokens
    ids: Tokens


class Passes:
    """Runs forward passes of one model on one server.

    Parameters
    ----------
    backend : Backend
    model : str
        As served.
    dialect : wire.Dialect
    limits : Limits
    block_tokens : int or None
        Of the prefix cache; None if there is none.
    """

    def __init__(
        self,
        backend: Backend,
        model: str,
        dialect: wire.Dialect,
        limits: Limits,
        *,
        block_tokens: int | None,
    ) -> None:
        self._backend = backend
        self._model = model
        self._dialect = dialect
        self._limits = limits
        self._block_tokens = block_tokens

    async def read(self, prompts: Sequence[Tokens]) -> list[wire.Read | NotScored]:
        """Return ln p of the tokens of whole prompts, which are computed anew every time.

        A prompt that is longer than ``Limits.longest_read`` is refused: it takes too much of the server's
        memory.
        """
        distinct = sorted(set(prompts), key=lambda prompt: (-len(prompt), prompt))
        short = [prompt for prompt in distinct if len(prompt) <= self._limits.longest_read]
        told: dict[Tokens, wire.Read | NotScored] = {
            prompt: NotScored(
                code=PayloadTooLarge.code,
                message=f"{len(prompt)} tokens, allowed {self._limits.longest_read} in echo mode",
            )
            for prompt in distinct
            if len(prompt) > self._limits.longest_read
        }

        async def ask(part: Sequence[Tokens]) -> list[wire.Read | wire.Malformed]:
            body = wire.reading_request(self._model, part, self._dialect)
            answer = await self._post(body, part, reads=True)
            return self._checked(*wire.parse_reading(answer, part, self._dialect))

        packed = self._packed(short, range(len(short)), min(self._limits.read_tokens, MOST_READ_TOKENS))
        answers = await asyncio.gather(*(isolated([short[i] for i in call], ask) for call in packed))
        for call, part in zip(packed, answers, strict=True):
            told |= {short[i]: answer for i, answer in zip(call, part, strict=True)}
        return [told[prompt] for prompt in prompts]

    async def next_tokens(self, questions: Sequence[Question]) -> list[wire.Next | NotScored]:
        """Return ln p of certain tokens after prompts; what prompts share is computed once.

        Every answer holds every id that was asked for.
        """
        prompt_to_ids: dict[Tokens, set[int]] = {}
        for question in questions:
            prompt_to_ids.setdefault(question.prompt, set()).update(question.ids)
        width = wire.MAX_LABELS if self._dialect.label_form else 1
        parts = [
            Question(prompt, tuple(ordered[start : start + width]))
            for prompt, ids in prompt_to_ids.items()
            for ordered in [sorted(ids)]
            for start in range(0, len(ordered), width)
        ]
        merged: dict[Tokens, wire.Next | NotScored] = {}
        for part, answer in zip(parts, await self._in_waves(parts), strict=True):
            merged[part.prompt] = _merged(merged.get(part.prompt), answer)
        return [merged[question.prompt] for question in questions]

    async def generate(
        self, prompts: Sequence[Tokens], max_tokens: int, stop: str
    ) -> list[wire.Answered | NotScored]:
        """Return greedy answers."""
        distinct = list(dict.fromkeys(prompts))

        async def ask(part: Sequence[Tokens]) -> list[wire.Answered | wire.Malformed]:
            body = wire.generation_request(self._model, part, max_tokens, stop)
            answer = await self._post(body, part, generated=max_tokens)
            return self._checked(*wire.parse_generation(answer, part))

        told: dict[Tokens, wire.Answered | NotScored] = {}
        for wave in waves(distinct, self._block_tokens):
            packed = self._packed(distinct, wave, self._limits.tokens // 4)
            answers = await asyncio.gather(*(isolated([distinct[i] for i in call], ask) for call in packed))
            for call, part in zip(packed, answers, strict=True):
                told |= {distinct[i]: answer for i, answer in zip(call, part, strict=True)}
        return [told[prompt] for prompt in prompts]

    async def _in_waves(self, questions: Sequence[Question]) -> list[wire.Next | NotScored]:
        prompts = [question.prompt for question in questions]
        told: dict[int, wire.Next | NotScored] = {}
        for wave in waves(prompts, self._block_tokens):
            packed = self._packed(prompts, wave, self._limits.tokens // 4, self._may_join(questions))
            answers = await asyncio.gather(
                *(isolated([questions[i] for i in call], self._ask_next) for call in packed)
            )
            for call, part in zip(packed, answers, strict=True):
                told |= dict(zip(call, part, strict=True))
        return [told[i] for i in range(len(questions))]

    def _may_join(self, questions: Sequence[Question]) -> Callable[[list[int], int], bool]:
        """Say whether a question may join a call: all questions of a call name the same ids."""
        width = wire.MAX_LABELS if self._dialect.label_form else 1

        def fits(call: list[int], i: int) -> bool:
            if set(questions[i].ids) <= set(questions[call[0]].ids):
                return True
            return len({token for j in [*call, i] for token in questions[j].ids}) <= width

        return fits

    async def _ask_next(self, questions: Sequence[Question]) -> list[wire.Next | wire.Malformed]:
        prompts = [question.prompt for question in questions]
        ids = sorted({token for question in questions for token in question.ids})
        if self._dialect.label_form:
            body = wire.label_request(self._model, prompts, ids)
        else:
            (token,) = ids
            body = wire.forced_request(self._model, prompts, token)
        answers = self._checked(*wire.parse_next(await self._post(body, prompts), prompts))
        return [
            answer if isinstance(answer, wire.Malformed) else _complete(answer, question)
            for question, answer in zip(questions, answers, strict=True)
        ]

    def _packed(
        self,
        prompts: Sequence[Tokens],
        indices: Sequence[int],
        max_tokens: int,
        fits: Callable[[list[int], int], bool] = lambda _call, _i: True,
    ) -> list[list[int]]:
        return list(
            calls(
                indices,
                tokens=lambda i: len(prompts[i]),
                fits=fits,
                max_tokens=max(max_tokens, 1),
                max_prompts=self._limits.prompts_per_call,
            )
        )

    async def _post(
        self, body: Mapping[str, Any], prompts: Sequence[Tokens], *, reads: bool = False, generated: int = 0
    ) -> Any:
        try:
            return await self._backend.post(
                COMPLETIONS,
                body,
                tokens=sum(map(len, prompts)),
                reads=reads,
                generated=generated,
                divisible=len(prompts) > 1,
            )
        except Rejected as error:
            if error.status == 404:
                raise ModelChanged from error
            if error.status in {401, 403}:
                raise ScorerUnavailable(f"the scorer refuses access: {error}") from error
            raise

    def _checked(self, answers: list[Any], model: str) -> list[Any]:
        if model != self._model:
            raise ModelChanged
        return answers


def _complete(answer: wire.Next, question: Question) -> wire.Next | wire.Malformed:
    if any(token not in answer.id_to_nats for token in question.ids):
        return wire.Malformed("the answer leaves out tokens that were asked for")
    return answer


def _merged(one: wire.Next | NotScored | None, other: wire.Next | NotScored) -> wire.Next | NotScored:
    if one is None:
        return other
    if isinstance(one, NotScored):
        # Of two failures the one that says more.
        return other if isinstance(one, Unanswered) and isinstance(other, NotScored) else one
    if isinstance(other, NotScored):
        return other
    return wire.Next({**one.id_to_nats, **other.id_to_nats}, one.chosen)


def likeliest(answer: wire.Next, token: int, *, forced: bool) -> bool | None:
    """Say whether ``token`` was the likeliest one; None where it was the only one allowed."""
    if forced or math.isnan(answer.id_to_nats[token]):
        return None
    return answer.id_to_nats[token] >= answer.id_to_nats[answer.chosen]
