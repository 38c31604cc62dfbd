"""A language model of two layers with random weights, and a vocabulary whose merges cross borders."""

from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "</s>"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
WORDS = ("the", " the", "answer", " an", "ans", "wer", "ing")


VOCABULARY = 113
"""The end marker, 96 characters, and what the words above add by merging."""


def make_tiny_model(folder: Path) -> Path:
    """Write a checkpoint with a window of 128 tokens."""
    vocabulary = {piece: i for i, piece in enumerate([END, *CHARACTERS])}
    merges = []
    for word in WORDS:
        for end, _ in pairwise(range(1, len(word) + 1)):
            if word[: end + 1] not in vocabulary:
                vocabulary[word[: end + 1]] = len(vocabulary)
                merges.append((word[:end], word[end]))
    assert len(vocabulary) == VOCABULARY
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False))
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)
    torch.manual_seed(7)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=0,
        )
    )
    model.save_pretrained(folder)
    return folder


class Oracle:
    """Plain forward passes over whole sequences, one at a time, in the obvious way."""

    def __init__(self, folder: Path) -> None:
        self._model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def token_nats(self, context, completion) -> list[float]:
        ids = [*context, *completion]
        with torch.inference_mode():
            logs = self._model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [float(logs[i - 1, ids[i]]) for i in range(len(context), len(ids))]

    def joint(self, context: str, completions) -> list[float]:
        """Score completions by the tokens of the whole texts, from where the first of them differs on."""
        body = self.encode(context.rstrip())
        whole = [self.encode(context + completion) for completion in completions]
        shared = min(min(self._alike(body, ids), len(ids) - 1) for ids in whole)
        return [sum(self.token_nats(ids[:shared], ids[shared:])) for ids in whole]

    def greedy(self, prompt, max_tokens: int) -> list[int]:
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(max_tokens):
                ids.append(int(self._model(torch.tensor([ids])).logits[0, -1].argmax()))
        return ids[len(prompt) :]

    @staticmethod
    def _alike(left, right) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
            min(len(left), len(right)),
        )
