"""The toy model as an engine of vLLM's in this process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import current_thread
from types import SimpleNamespace
from typing import Any

import numpy as np

from kshot.clients.scorers.engine import Loaded
from kshot.testing import BigramModel, ToyTokenizer

SIZE = 200


class Refusal(Exception):
    """What this engine raises where it accepts no request, as newer versions of vLLM do."""


class Death(Exception):
    """What it raises when it is no more."""


@dataclass(kw_only=True)
class Sampling:
    """As ``vllm.SamplingParams``."""

    n: int
    temperature: float
    seed: int
    max_tokens: int
    detokenize: bool
    skip_special_tokens: bool
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    stop: list[str] = field(default_factory=list)


class ToyEngine:
    """Speaks as ``vllm.LLM`` does; ``bare`` log-probabilities are floats, as of its early versions."""

    def __init__(self, *, bare: bool = False) -> None:
        self.model = BigramModel()
        self.tokenizer = ToyTokenizer()
        self.bare = bare
        self.dies = False
        self.ended = False
        self.threads: set[str] = set()
        self.asked: list[tuple[int, Sampling]] = []
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=2048, get_vocab_size=lambda: SIZE),
            vllm_config=SimpleNamespace(
                cache_config=SimpleNamespace(block_size=16, enable_prefix_caching=False)
            ),
            engine_core=SimpleNamespace(shutdown=self._end),
        )

    def loaded(self) -> Loaded:
        return Loaded(
            llm=self, sampling=Sampling, root="toy", deaths=(Death,), refusals=(Refusal, ValueError)
        )

    def get_tokenizer(self) -> Any:
        return SimpleNamespace(
            encode=self.tokenizer.encode, decode=lambda ids, skip_special_tokens: self.tokenizer.decode(ids)
        )

    def generate(self, prompts: Sequence[Any], params: Sampling, *, use_tqdm: bool) -> list[Any]:
        self.threads.add(current_thread().name)
        self.asked.append((len(prompts), params))
        if self.dies:
            raise Death
        given = [prompt["prompt_token_ids"] for prompt in prompts]
        named = [*given, params.logprob_token_ids or (), params.allowed_token_ids or ()]
        if any(not 0 <= token < SIZE for ids in named for token in ids) or (params.logprobs or 0) > 20:
            raise Refusal(f"quotes {given}")
        return [self._output(ids, params) for ids in given]

    def _output(self, prompt: list[int], params: Sampling) -> Any:
        tokens: list[int] = []
        entries = []
        while len(tokens) < params.max_tokens:
            row = self.model.log_probs([*prompt, *tokens])
            allowed = params.allowed_token_ids or range(SIZE)
            token = max(allowed, key=lambda i: row[i])
            wanted = params.logprob_token_ids or np.argsort(-row, kind="stable")[: params.logprobs or 0]
            entries.append(self._entry(row, [*map(int, wanted), token]))
            tokens.append(token)
            if any(stop in self.tokenizer.decode(tokens) for stop in params.stop):
                break
        text = self.tokenizer.decode(tokens) if params.detokenize else ""
        for stop in params.stop:
            text = text.partition(stop)[0]
        told = None
        if params.prompt_logprobs is not None:
            told = [None, *(self._read(prompt, end, params.prompt_logprobs) for end in range(1, len(prompt)))]
        return SimpleNamespace(
            prompt_logprobs=told, outputs=[SimpleNamespace(text=text, token_ids=tokens, logprobs=entries)]
        )

    def _read(self, prompt: list[int], end: int, width: int) -> dict[int, Any]:
        row = self.model.log_probs(prompt[:end])
        return self._entry(row, [prompt[end], *map(int, np.argsort(-row, kind="stable")[:width])])

    def _entry(self, row: Any, tokens: list[int]) -> dict[int, Any]:
        if self.bare:
            return {token: float(row[token]) for token in tokens}
        return {
            token: SimpleNamespace(logprob=float(row[token]), rank=1 + int((row > row[token]).sum()))
            for token in tokens
        }

    def _end(self) -> None:
        self.ended = True
