"""The answers of a completion server, built from a model and a request: no I/O, no state."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Float64s
from kshot.testing.bigram import BigramModel
from kshot.testing.faults import Faults
from kshot.testing.prefix_cache import BLOCK_TOKENS
from kshot.testing.toy_tokenizer import EOS, PIECES, SPECIALS, VOCABULARY_SIZE, ToyTokenizer

_LEAST = -9999.0
_MAX_LABELS = 128


class Refused(Exception):
    """A request that the server answers with 400; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a body of ``/v1/completions`` asks for; the defaults are the wire's."""

    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int
    temperature: float
    echo: bool
    logprobs: int | None
    prompt_logprobs: int | None
    logprob_token_ids: tuple[int, ...] | None
    allowed_token_ids: tuple[int, ...] | None
    token_id_names: bool
    stop: tuple[str, ...]
    seed: int

    @property
    def reads_prompts(self) -> bool:
        """Whether log-probabilities of the prompts are asked for; such requests read no prefix cache."""
        return self.prompt_logprobs is not None or (self.echo and self.logprobs is not None)


def parse_request(
    body: Mapping[str, Any], tokenizer: ToyTokenizer, faults: Faults, max_model_tokens: int
) -> Request:
    """Check a body as vLLM does.

    Raises
    ------
    Refused
        The request is malformed, too long, or asks for more log-probabilities than allowed.
    """
    prompts = _prompts(body.get("prompt"), tokenizer, add_special=body.get("add_special_tokens", True))
    if faults.double_bos:
        prompts = tuple((0, *prompt) for prompt in prompts)
    known = {} if faults.ignores_prompt_logprobs else {"prompt_logprobs": body.get("prompt_logprobs")}
    labels = None if faults.ignores_logprob_token_ids else body.get("logprob_token_ids")
    given = body.get("max_tokens")
    stop = body.get("stop") or ()
    request = Request(
        prompts=prompts,
        max_tokens=16 if given is None else given,
        temperature=1.0 if body.get("temperature") is None else body["temperature"],
        echo=bool(body.get("echo")),
        logprobs=body.get("logprobs"),
        prompt_logprobs=known.get("prompt_logprobs"),
        logprob_token_ids=None if labels is None else tuple(labels),
        allowed_token_ids=None if body.get("allowed_token_ids") is None else tuple(body["allowed_token_ids"]),
        token_id_names=bool(body.get("return_tokens_as_token_ids")) and not faults.ignores_token_id_names,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=body.get("seed") or 0,
    )
    _check(request, faults, max_model_tokens)
    return request


def _prompts(given: Any, tokenizer: ToyTokenizer, *, add_special: bool) -> tuple[tuple[int, ...], ...]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and given and all(isinstance(token, int) for token in given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise Refused("prompt must be a text, token ids, or a list of either, and not empty")
    prompts = tuple(
        tokenizer.encode(one, add_special_tokens=add_special) if isinstance(one, str) else tuple(one)
        for one in given
    )
    for prompt in prompts:
        if not prompt or not all(isinstance(i, int) and 0 <= i < VOCABULARY_SIZE for i in prompt):
            raise Refused("a prompt is empty or holds a token id out of vocabulary")
    return prompts


def _check(request: Request, faults: Faults, max_model_tokens: int) -> None:
    for name, asked in (("logprobs", request.logprobs), ("prompt_logprobs", request.prompt_logprobs)):
        wanted = VOCABULARY_SIZE if asked == -1 else (asked or 0)
        if wanted < 0 or wanted > faults.max_logprobs:
            raise Refused(f"{name} is {asked}, allowed at most {faults.max_logprobs}")
    if request.logprob_token_ids is not None:
        if request.logprobs is None:
            raise Refused("when using `logprob_token_ids`, `logprobs` must be set")
        if not 1 <= len(request.logprob_token_ids) <= _MAX_LABELS:
            raise Refused(f"logprob_token_ids has {len(request.logprob_token_ids)} ids, allowed 1 to 128")
        if request.echo and request.max_tokens == 0:
            raise Refused("`logprob_token_ids` is not supported when no tokens are generated")
    if request.max_tokens < 0 or (request.max_tokens == 0 and (faults.refuses_no_tokens or not request.echo)):
        raise Refused(f"max_tokens is {request.max_tokens}, allowed >= 1")
    longest = max(map(len, request.prompts)) + max(request.max_tokens, 1)
    if longest > max_model_tokens:
        raise Refused(f"maximum context length is {max_model_tokens} tokens, {longest} were requested")


class Answerer:
    """Works out the choice of one prompt."""

    def __init__(self, model: BigramModel, tokenizer: ToyTokenizer, request: Request, faults: Faults) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._request = request
        self._faults = faults

    def choice(self, index: int, *, repeated: bool) -> dict[str, Any]:
        """Return one element of ``choices``; ``repeated`` says that the prompt was asked before."""
        request = self._request
        prompt = request.prompts[index]
        generated, finish, steps = self._generate(prompt, index)
        read = self._read(prompt, index, repeated=repeated) if request.reads_prompts else []
        text = self._tokenizer.decode([token for token in generated if token >= len(SPECIALS)])
        for stop in request.stop:
            text = text.split(stop)[0]
        answer: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish, "stop_reason": None}
        tokens, rows, width = list(generated), steps, request.logprobs or 0
        if request.echo:
            answer["text"] = self._tokenizer.decode(prompt) + text
            tokens, rows = [*prompt, *generated], [*read, *steps]
        answer["logprobs"] = None if request.logprobs is None else self._logprobs(tokens, rows, width)
        answer["prompt_logprobs"] = None
        if request.prompt_logprobs is not None:
            answer["prompt_logprobs"] = self._prompt_logprobs(prompt, read)
        return answer

    def _row(self, prompt: Sequence[int], index: int) -> Float64s:
        faults = self._faults
        row = self._model.log_probs(prompt) + faults.inflated_nats
        if faults.noise_nats:
            row += faults.noise_nats * np.sin(index * np.arange(1, len(row) + 1))
        if faults.constant_nats is not None:
            row = np.full_like(row, faults.constant_nats)
        return row

    def _generate(self, prompt: Sequence[int], index: int) -> tuple[list[int], str, list[Float64s | None]]:
        request = self._request
        tokens: list[int] = []
        steps: list[Float64s | None] = []
        rng = np.random.default_rng([request.seed, index])
        while len(tokens) < request.max_tokens:
            raw = self._row([*prompt, *tokens], index)
            processed = raw.copy()
            if request.allowed_token_ids is not None:
                masked = np.full_like(raw, -np.inf)
                masked[list(request.allowed_token_ids)] = raw[list(request.allowed_token_ids)]
                processed = masked
            if request.temperature > 0:
                processed = processed / request.temperature
            with np.errstate(divide="ignore"):
                processed -= np.log(np.exp(processed - processed.max()).sum()) + processed.max()
            chosen = int(processed.argmax())
            if request.temperature > 0:
                weights = np.exp(processed)
                chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
            tokens.append(chosen)
            steps.append(processed if self._faults.processed_logprobs else raw)
            if chosen == EOS or any(stop in self._tokenizer.decode(tokens) for stop in request.stop):
                return tokens, "stop", steps
        return tokens, "length", steps

    def _read(self, prompt: Sequence[int], index: int, *, repeated: bool) -> list[Float64s | None]:
        faults = self._faults
        if faults.null_prompt_logprobs:
            return [None]
        rows: list[Float64s | None] = [None]
        for end in range(1, len(prompt)):
            row = self._row(prompt[:end], index)
            rows.append(np.roll(row, 1 + end % 3) if faults.corrupt_prompt_logprobs else row)
        if faults.shifted_prompt_logprobs:
            del rows[0]
        if faults.fails_at_block_edges and repeated and len(prompt) % BLOCK_TOKENS == 0:
            del rows[-1]
        return rows

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self._request.token_id_names else PIECES[token]

    def _logprobs(
        self, tokens: Sequence[int], rows: Sequence[Float64s | None], width: int
    ) -> dict[str, list[Any]]:
        labels = self._request.logprob_token_ids
        token_logprobs: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        # A list that is too short or too long stays so: that is a fault's doing.
        for token, row in zip(tokens, rows, strict=False):
            if row is None:
                token_logprobs.append(None)
                tops.append(None)
                continue
            listed = [token, *(labels or _top(row, VOCABULARY_SIZE if width == -1 else width))]
            named = {self._name(i): max(float(row[i]), _LEAST) for i in dict.fromkeys(listed)}
            kept = len(named) if labels or width == -1 else width + 1
            token_logprobs.append(max(float(row[token]), _LEAST))
            tops.append(dict(list(named.items())[:kept]))
        names = [self._name(token) for token in tokens]
        offsets = [0]
        for name in names[:-1]:
            offsets.append(offsets[-1] + len(name))
        return {
            "text_offset": offsets[: len(names)],
            "token_logprobs": token_logprobs,
            "tokens": names,
            "top_logprobs": tops,
        }

    def _prompt_logprobs(
        self, prompt: Sequence[int], rows: Sequence[Float64s | None]
    ) -> list[dict[str, Any] | None]:
        width = self._request.prompt_logprobs or 0
        entries: list[dict[str, Any] | None] = []
        tokens = prompt[1:] if self._faults.shifted_prompt_logprobs else prompt
        for token, row in zip(tokens, rows, strict=False):
            if row is None:
                entries.append(None)
                continue
            listed = dict.fromkeys([token, *_top(row, VOCABULARY_SIZE if width == -1 else width)])
            entries.append({str(i): _entry(row, i) for i in listed})
        return entries


def _top(row: Float64s, width: int) -> list[int]:
    return [int(i) for i in np.argsort(-row, kind="stable")[:width]]


def _entry(row: Float64s, token: int) -> dict[str, Any]:
    rank = 1 + int((row > row[token]).sum())
    return {"logprob": max(float(row[token]), _LEAST), "rank": rank, "decoded_token": PIECES[token]}


def as_json(answer: Mapping[str, Any], *, cut: bool) -> bytes:
    """Encode an answer; ``cut`` ends it in the middle."""
    data = json.dumps(answer).encode()
    return data[: len(data) // 2] if cut else data
