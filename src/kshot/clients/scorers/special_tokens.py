"""The markers that a model's tokenizer puts around texts, learned by asking it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kshot.clients.scorers.base import Tokens
from kshot.clients.scorers.tokenization import Encode, Flow, decodings, encodings

END_MARKERS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end▁of▁sentence|>",
    "<eos>",
    "</s>",
)
"""How models write "the end", tried in this order: that of a turn before that of a text."""
START_MARKERS = ("<|begin_of_text|>", "<bos>", "<|endoftext|>", "<s>", "<|im_start|>")
_MARKER_AT_END = re.compile(r"(<[^<>\s]{1,60}>|\[/?[A-Z_]{2,20}\])\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """A model's markers.

    Attributes
    ----------
    prefix : tuple of int
        What the tokenizer puts before a text by default, such as BOS; often nothing.
    start : int or None
        What stands before a completion that has no context: the prefix' last token, else a marker of start
        or end. None if the model has none.
    end : str or None
        The marker that ends an answer, as text.
    """

    prefix: Tokens = ()
    start: int | None = None
    end: str | None = None

    def begin(self, ids: Tokens) -> Tokens:
        """Put the prefix in front, once: a text that starts with it gets none more."""
        return ids if self.prefix_tokens(ids) else self.prefix + ids

    def prefix_tokens(self, ids: Tokens) -> int:
        """Return how many tokens at the start of ``ids`` are the prefix: all of it, or none."""
        return len(self.prefix) if ids[: len(self.prefix)] == self.prefix else 0


def learn_special_tokens(end: str | None = None) -> Flow[SpecialTokens]:
    """Find out a tokenizer's markers; ``end`` overrides which one ends an answer."""
    ends = END_MARKERS if end is None else (end,)
    markers = list(dict.fromkeys([*ends, *START_MARKERS]))
    bare, marked = yield [Encode("a"), Encode("a", special=True)]
    assert isinstance(bare, tuple)
    assert isinstance(marked, tuple)
    marker_to_id = yield from marker_ids(markers)
    prefix = _before(bare, marked)
    known_end = next((marker for marker in ends if marker in marker_to_id), None)
    start = prefix[-1] if prefix else None
    if start is None:
        candidates = [*START_MARKERS, *([] if known_end is None else [known_end])]
        start = next((marker_to_id[marker] for marker in candidates if marker in marker_to_id), None)
    return SpecialTokens(prefix=prefix, start=start, end=known_end)


def marker_at_end(text: str) -> str | None:
    """Return what looks like a special token at the end of ``text``."""
    match = _MARKER_AT_END.search(text)
    return match.group() if match else None


def marker_ids(texts: Sequence[str]) -> Flow[dict[str, int]]:
    """Return the token of each text that is a marker.

    A marker is one more token where it is repeated, and that token reads as the marker does. What only looks
    like one takes several tokens, or lost the characters that the tokenizer does not know.
    """
    ids = yield from encodings([text for marker in texts for text in (marker, 2 * marker)])
    # Some tokenizers put a space before the first token.
    text_to_id = {
        text: once[-1]
        for text, once, twice in zip(texts, ids[::2], ids[1::2], strict=True)
        if once and twice == (*once, once[-1])
    }
    spelled = yield from decodings([(token,) for token in text_to_id.values()])
    return {
        text: token for (text, token), back in zip(text_to_id.items(), spelled, strict=True) if back == text
    }


def _before(bare: Tokens, marked: Tokens) -> Tokens:
    for start in range(len(marked) - len(bare) + 1):
        if marked[start : start + len(bare)] == bare:
            return marked[:start]
    return ()
