"""A causal language model of transformers on the CPU. Imports torch: import it inside functions only."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from kshot.clients.scorers.base import Generated, Tokens
from kshot.clients.scorers.rows import Row
from kshot.clients.scorers.tokenization import NoTemplate

Dtype: TypeAlias = Literal["float32", "bfloat16"]
_LOGITS = 2**26
"""Logits held at once: 256 MiB in float32."""
_PREFILL_TOKENS = 1024
_UNKNOWN_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Step:
    """One next-token distribution: ln p of the tokens asked for, and the likeliest token."""

    token_to_nats: dict[int, float]
    likeliest: int


class CausalModel:
    """A model and its tokenizer. Blocks; one thread at a time.

    Log-probabilities are taken of float32 logits, whatever the weights are.

    Parameters
    ----------
    folder : Path
        A checkpoint that transformers can open, tokenizer included.
    dtype : str
        Of weights and hidden states.
    """

    def __init__(self, folder: Path, dtype: Dtype) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        kind = getattr(torch, dtype)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
        forward = inspect.signature(self._model.forward).parameters
        # transformers calls it `past_key_values` before 5.24.
        self._cache_name = "cache" if "cache" in forward else "past_key_values"
        config = self._model.config.get_text_config()
        self.vocabulary_size = int(config.vocab_size)
        self.window = int(getattr(config, "max_position_embeddings", 0) or _UNKNOWN_WINDOW)
        ends = self._model.generation_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    @property
    def end_marker(self) -> str | None:
        """What ends an answer, as text."""
        marker = self._tokenizer.eos_token
        return None if marker is None else str(marker)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of ``text``."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    def encode_chat(self, messages: Sequence[Mapping[str, str]], switches: Mapping[str, Any]) -> list[int]:
        """Return the token ids of messages and of the start of the answer, by the model's template.

        Raises
        ------
        NoTemplate
            There is none, or it takes no such messages.
        """
        if not self._tokenizer.chat_template:
            raise NoTemplate("the model's tokenizer has no template for chats")
        try:
            text = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=True,
                tokenize=False,
                **switches,
            )
        except (TemplateError, TypeError) as error:
            # Its message may quote the chat.
            raise NoTemplate("the model's template takes no such messages or switches") from error
        return self.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of ``ids``."""
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
            )
        )

    def prefill(self, prefix: Tokens) -> Any:
        """Return what later tokens need to know of ``prefix``; give it to `read`."""
        cache = DynamicCache(config=self._model.config)
        with torch.inference_mode():
            for start in range(0, len(prefix), _PREFILL_TOKENS):
                part = torch.tensor([prefix[start : start + _PREFILL_TOKENS]])
                self._model(part, use_cache=True, logits_to_keep=1, **{self._cache_name: cache})
        return cache

    def read(self, rows: Sequence[Row], *, shared: int = 0, prefilled: Any = None) -> list[list[Step]]:
        """Return, per row, a step for each of ``row.wanted``.

        Parameters
        ----------
        rows : sequence of Row
        shared : int
            Tokens at the start of every row that ``prefilled`` stands for.
        prefilled : what `prefill` gave, or None

        Notes
        -----
        Rows are padded at their ends: padding comes after every token that is read, so it changes nothing.
        """
        width = max(len(row.ids) for row in rows) - shared
        ids = torch.tensor([[*row.ids[shared:], *[0] * (width + shared - len(row.ids))] for row in rows])
        column_to_steps: dict[int, list[tuple[int, int]]] = {}
        for number, row in enumerate(rows):
            for step in range(len(row.wanted)):
                column_to_steps.setdefault(row.first + step - 1 - shared, []).append((number, step))
        found: list[list[Step | None]] = [[None] * len(row.wanted) for row in rows]
        for columns, logits in self._logits(ids, sorted(column_to_steps), prefilled):
            totals, likeliest = logits.logsumexp(-1), logits.argmax(-1)
            for place, column in enumerate(columns):
                for number, step in column_to_steps[column]:
                    wanted = rows[number].wanted[step]
                    nats = logits[number, place, list(wanted)] - totals[number, place]
                    found[number][step] = Step(
                        dict(zip(wanted, nats.tolist(), strict=True)), int(likeliest[number, place])
                    )
        return [[step for step in steps if step is not None] for steps in found]

    def generate(self, prompts: Sequence[Tokens], max_tokens: int, stop: str) -> list[Generated]:
        """Return the greedy answers; what ends one, a marker or ``stop``, counts as its last token."""
        width = max(map(len, prompts))
        ids = torch.tensor([[*[0] * (width - len(prompt)), *prompt] for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.config)
        tokens: list[list[int]] = [[] for _ in prompts]
        nats: list[list[float]] = [[] for _ in prompts]
        running = set(range(len(prompts)))
        for _ in range(max_tokens):
            with torch.inference_mode():
                logits = (
                    self._model(
                        ids,
                        attention_mask=mask,
                        position_ids=positions,
                        use_cache=True,
                        logits_to_keep=1,
                        **{self._cache_name: cache},
                    )
                    .logits[:, -1]
                    .float()
                )
                chosen = logits.argmax(-1)
                likelihoods = logits.amax(-1) - logits.logsumexp(-1)
            for number in sorted(running):
                tokens[number].append(int(chosen[number]))
                nats[number].append(float(likelihoods[number]))
                if tokens[number][-1] in self._ends or (stop and stop in self.decode(tokens[number])):
                    running.discard(number)
            if not running:
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
        return [
            Generated(
                text=_before(self.decode(answer, skip_special_tokens=True), stop),
                tokens=len(answer),
                mean_nats=sum(values) / len(values),
            )
            for answer, values in zip(tokens, nats, strict=True)
        ]

    def _logits(self, ids: Any, columns: list[int], prefilled: Any) -> Iterator[tuple[list[int], Any]]:
        """Yield float32 logits (rows, columns, vocabulary) of some of the columns at a time."""
        most = max(1, _LOGITS // (len(ids) * self.vocabulary_size))
        parts = [columns[start : start + most] for start in range(0, len(columns), most)]
        cache = prefilled
        if prefilled is not None:
            cache = copy.deepcopy(prefilled)
            cache.batch_repeat_interleave(len(ids))
        elif len(parts) > 1:
            cache = DynamicCache(config=self._model.config)
        named = {} if cache is None else {self._cache_name: cache}
        start = 0
        for part in parts:
            end = part[-1] + 1
            keep = torch.tensor([column - start for column in part])
            with torch.inference_mode():
                answer = self._model(
                    ids[:, start:end], use_cache=cache is not None, logits_to_keep=keep, **named
                )
                yield part, answer.logits.float()
            start = end


def _before(text: str, stop: str) -> str:
    return text.partition(stop)[0] if stop else text
