"""Seven checks that tell whether a server's log-probabilities can be trusted.

Back ends fail silently: every option scores equal, lists are one short, the last token is another one's. Each
check compares what must agree whatever the model, and costs a few short requests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kshot.clients.scorers import wire
from kshot.clients.scorers.backend import COMPLETIONS, Backend
from kshot.clients.scorers.base import Canary, Tokens
from kshot.clients.scorers.endpoint import Broke, Rejected

_SHAPE_TOKENS = 40
_EDGE_TOKENS = (15, 16, 17, 33)
_CHAIN_TOKENS = 5
_TOPS = (20, 5, 1)
_LEAST = -200.0
_MASS = 1.001
_APART_NATS = 2.0
_BATCH = 8
_HOT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the checks are made of.

    Attributes
    ----------
    ids : tuple of int
        At least 40 tokens of ordinary text, with the model's start in front.
    context : tuple of int
    likely, unlikely : tuple of int
        Two completions of ``context`` whose log-likelihoods differ by more than 2 nats for any sane model.
    """

    ids: Tokens
    context: Tokens
    likely: Tokens
    unlikely: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the checks found.

    Attributes
    ----------
    canaries : tuple of Canary
    spread_nats : float
        The largest difference per token between requests that should agree.
    nondeterministic : bool
        C6 found a spread above the tolerance.
    half_precision : bool
        The model's scores are as coarse as those of 16-bit numbers. Larger batches than the canaries' then
        differ by a step of them here and there.
    signature : tuple of float
        Sums that depend on the model and on little else, in nats.
    """

    canaries: tuple[Canary, ...]
    spread_nats: float
    nondeterministic: bool
    half_precision: bool
    signature: tuple[float, ...]

    def passed(self, name: str) -> bool:
        """Say whether a check passed; one that was not made has not."""
        return any(canary.passed for canary in self.canaries if canary.name == name)


class _Failed(Exception):
    pass


class Canaries:
    """Makes the checks on one server.

    Parameters
    ----------
    backend, model, dialect
        Where and how to ask.
    material : Material
    tolerance_nats : float
        Per token, on average; what rounding in half precision explains.
    """

    def __init__(
        self, backend: Backend, model: str, dialect: wire.Dialect, material: Material, tolerance_nats: float
    ) -> None:
        self._backend = backend
        self._model = model
        self._dialect = dialect
        self._material = material
        self._tolerance = tolerance_nats
        self._width = _TOPS[0]
        self._largest: list[float] = []
        self._half_precision = False
        self._signature: tuple[float, ...] = ()

    async def run(self) -> Findings:
        """Make all checks, one after the other.

        Raises
        ------
        NotAnswered, ScorerUnavailable
            The server does not answer.
        """
        self._width = await self._widest()
        canaries: list[Canary] = []
        for name, check in (
            ("C1", self._shape),
            ("C2", self._block_edges),
            # Before C3, which would ask by forced tokens.
            ("C4", self._raw),
            ("C3", self._chain_rule),
            ("C5", self._normalised),
            ("C6", self._batch),
            ("C7", self._discriminates),
        ):
            try:
                canaries.append(Canary(name=name, passed=True, detail=await check()))
            except _Failed as failure:
                canaries.append(Canary(name=name, passed=False, detail=str(failure)))
            except (Broke, Rejected, wire.Malformed) as error:
                canaries.append(Canary(name=name, passed=False, detail=str(error)))
            if name == "C4" and not canaries[-1].passed:
                self._dialect = replace(self._dialect, forced_form=False)
        canaries.sort(key=lambda canary: canary.name)
        failed_batch = any(canary.name == "C6" and not canary.passed for canary in canaries)
        return Findings(
            canaries=tuple(canaries),
            spread_nats=max(self._largest, default=0.0),
            nondeterministic=failed_batch,
            half_precision=self._half_precision,
            signature=self._signature,
        )

    async def _shape(self) -> str:
        """Check that every token of a prompt has its own log-probability, and the first has none."""
        (read,) = await self._read([self._material.ids[:_SHAPE_TOKENS]])
        lowest = min(read.nats)
        if lowest <= _LEAST:
            raise _Failed(f"ordinary text has a token of {lowest:.0f} nats")
        self._signature = (sum(read.nats),)
        return f"lowest {lowest:.1f} nats"

    async def _block_edges(self) -> str:
        """Check that lengths around a block of the prefix cache give the same twice."""
        differences: list[float] = []
        for length in _EDGE_TOKENS:
            prompt = self._material.ids[:length]
            for ask in (self._read, self._top):
                first, second = [await ask([prompt]) for _ in range(2)]
                differences += _differences(first[0], second[0])
        return self._within("equal prompts", differences)

    async def _chain_rule(self) -> str:
        """Check that a sequence read as a whole is as likely as token by token."""
        context, steps = self._material.ids[:_SHAPE_TOKENS][:-_CHAIN_TOKENS], []
        completion = self._material.ids[len(context) : _SHAPE_TOKENS]
        if self._dialect.label_form or self._dialect.forced_form:
            for end, token in enumerate(completion):
                steps.append(await self._next(context + completion[:end], token))
        else:
            # Without a form that asks for given tokens, the likeliest ones have to do.
            completion = ()
            for _ in range(_CHAIN_TOKENS):
                (top,) = await self._top([context + completion])
                completion += (top.chosen,)
                steps.append(top.id_to_nats[top.chosen])
        (read,) = await self._read([context + completion])
        parts = read.completion(len(context)).nats
        return self._within("read in a prompt and asked for", list(map(_apart, parts, steps)))

    async def _raw(self) -> str:
        """Check that log-probabilities are taken before temperature and masks."""
        prompt = self._material.ids[:_SHAPE_TOKENS]
        (cold,), (hot,) = await self._top([prompt]), await self._top([prompt], temperature=_HOT)
        common = set(cold.id_to_nats) & set(hot.id_to_nats)
        differences = [_apart(cold.id_to_nats[i], hot.id_to_nats[i]) for i in sorted(common)]
        if self._dialect.forced_form:
            # Not the likeliest one: its log-probability could be near the 0 that a mask gives.
            token = min(cold.id_to_nats, key=lambda i: cold.id_to_nats[i])
            body = wire.forced_request(self._model, [prompt], token)
            (forced,) = _all(wire.parse_next(await self._post(body, prompt), [prompt])[0])
            if forced.chosen != token:
                raise _Failed("another token than the only one allowed came back")
            if forced.id_to_nats[token] == 0.0:
                raise _Failed("log-probabilities are taken after masks: the only one allowed has 0 nats")
            differences.append(_apart(forced.id_to_nats[token], cold.id_to_nats[token]))
        return self._within("with and without temperature and masks", differences)

    async def _normalised(self) -> str:
        """Check that the likeliest tokens share no more than 1, and that the first is what is generated."""
        (top,) = await self._top([self._material.ids[:_SHAPE_TOKENS]])
        self._half_precision = is_coarse(list(top.id_to_nats.values()))
        mass = sum(math.exp(nats) for nats in top.id_to_nats.values())
        if mass > _MASS:
            raise _Failed(f"the {len(top.id_to_nats)} likeliest tokens have a probability of {mass:.3f}")
        best = max(top.id_to_nats.values())
        if best - top.id_to_nats[top.chosen] > self._tolerance:
            raise _Failed("the likeliest token is not the one that is generated")
        return f"probability {mass:.3f}"

    async def _batch(self) -> str:
        """Check that a prompt scores the same alone, in a batch and after it."""
        prompt = self._material.ids[:_SHAPE_TOKENS]
        others = [(*prompt[:-1], token) for token in self._material.ids[: _BATCH - 1]]
        differences: list[float] = []
        for ask in (self._read, self._top):
            alone = await ask([prompt])
            # Last in the batch: the first place may be the one that is right.
            batch = await ask([*others, prompt])
            after = await ask([prompt])
            differences += [d for other in (batch, after) for d in _differences(alone[0], other[-1])]
        return self._within("alone and in a batch", differences)

    async def _discriminates(self) -> str:
        """Check that a good completion and a bad one differ."""
        context = self._material.context
        sums = []
        for completion in (self._material.likely, self._material.unlikely):
            (read,) = await self._read([context + completion])
            sums.append(sum(read.completion(len(context)).nats))
        self._signature += tuple(sums)
        if not abs(sums[0] - sums[1]) > _APART_NATS:
            raise _Failed(f"a good and a bad completion differ by {abs(sums[0] - sums[1]):.2g} nats")
        return f"differ by {abs(sums[0] - sums[1]):.1f} nats"

    def _within(self, what: str, differences: Sequence[float]) -> str:
        """Refuse differences that are too large on average: single ones are coarse in half precision."""
        mean = sum(differences) / len(differences) if differences else math.inf
        self._largest += [d for d in differences if math.isfinite(d)]
        if not mean <= self._tolerance:
            raise _Failed(f"{what}: differ by {mean:.3g} nats per token")
        return f"{what}: within {max(differences):.2g} nats"

    async def _widest(self) -> int:
        """Return how many of the likeliest tokens the server lists."""
        prompt = self._material.ids[:_SHAPE_TOKENS]
        for width in _TOPS[:-1]:
            try:
                await self._post(wire.top_request(self._model, [prompt], width), prompt)
            except (Broke, Rejected):
                continue
            return width
        return _TOPS[-1]

    async def _read(self, prompts: Sequence[Tokens]) -> list[wire.Read]:
        body = wire.reading_request(self._model, prompts, self._dialect)
        answer = await self._post(body, *prompts)
        return _all(wire.parse_reading(answer, prompts, self._dialect)[0])

    async def _top(self, prompts: Sequence[Tokens], temperature: float = 0.0) -> list[wire.Next]:
        body = wire.top_request(self._model, prompts, self._width, temperature=temperature)
        return _all(wire.parse_next(await self._post(body, *prompts), prompts)[0])

    async def _next(self, prompt: Tokens, token: int) -> float:
        if self._dialect.label_form:
            body = wire.label_request(self._model, [prompt], [token])
        else:
            body = wire.forced_request(self._model, [prompt], token)
        (answer,) = _all(wire.parse_next(await self._post(body, prompt), [prompt])[0])
        if token not in answer.id_to_nats:
            raise _Failed("the answer leaves out a token that was asked for")
        return float(answer.id_to_nats[token])

    async def _post(self, body: Mapping[str, Any], *prompts: Tokens) -> Any:
        return await self._backend.post(COMPLETIONS, body, tokens=sum(map(len, prompts)), divisible=True)


def is_coarse(nats: Sequence[float]) -> bool:
    """Say whether log-probabilities of one distribution come from 16-bit scores.

    Their differences are those of the scores, and thus multiples of a step that is at least 2^-9 for scores
    of 4 and more. Those of 32-bit scores hardly ever are, where there are a few.
    """
    steps = [(value - nats[0]) * 2**9 for value in nats[1:]]
    return len(steps) >= 3 and all(abs(step - round(step)) < 0.05 for step in steps if math.isfinite(step))


def _all(answers: Sequence[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, wire.Malformed):
            raise answer
    return list(answers)


def _differences(one: wire.Read | wire.Next, other: wire.Read | wire.Next) -> list[float]:
    if isinstance(one, wire.Read) and isinstance(other, wire.Read):
        return list(map(_apart, one.nats, other.nats))
    assert isinstance(one, wire.Next)
    assert isinstance(other, wire.Next)
    # Which tokens are the top ones may differ at the end of the list.
    common = sorted(set(one.id_to_nats) & set(other.id_to_nats))
    return [_apart(one.id_to_nats[i], other.id_to_nats[i]) for i in common]


def _apart(one: float, other: float) -> float:
    return 0.0 if one == other else abs(one - other)
