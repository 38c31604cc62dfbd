"""A tokenizer of 200 tokens with the habits that make borders between texts hard: merges, specials, bytes."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

VOCABULARY_SIZE = 200
BOS, EOS, USER = 0, 1, 2
SPECIALS = ("<s>", "</s>", "<|user|>")
_NIBBLES = tuple(f"<h{digit:X}>" for digit in range(16))
_FIRST_NIBBLE = len(SPECIALS)
_CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
_FIRST_CHARACTER = _FIRST_NIBBLE + len(_NIBBLES)
_FIRST_MERGE = _FIRST_CHARACTER + len(_CHARACTERS)
_ROLE_TO_FRAME = {"system": ("", "\n"), "user": (SPECIALS[USER], "\n"), "assistant": ("", SPECIALS[EOS])}
_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")


def _merge_rules() -> Iterator[tuple[str, str]]:
    """List pairs in their order of precedence; both parts exist before the pair does."""
    yield from pairwise_growth(" Paris", " banana", " the", " is", " yes", " no", " New", " York")
    yield from (("A", "n"), ("An", "s"), ("w", "e"), ("we", "r"), ("Ans", "wer"), ("y", "e"), ("ye", "s"))
    yield from (("i", "n"), ("in", "g"), ("e", "r"), ("o", "n"), ("a", "n"), ("r", "e"), ("a", "t"))
    # Punctuation takes the space or line break after it, unless a word has taken it already.
    yield from ((":", " "), ("\n", "\n"), ("?", "\n"))
    yield from ((consonant, vowel) for consonant in "bcdfghklmnprst" for vowel in "aeiou")


def pairwise_growth(*words: str) -> Iterator[tuple[str, str]]:
    """Grow each word by one character at a time; what is there already is not repeated."""
    seen = set()
    for word in words:
        for end in range(1, len(word)):
            if word[: end + 1] not in seen:
                seen.add(word[: end + 1])
                yield word[:end], word[end]


def _vocabulary() -> tuple[tuple[str, ...], dict[tuple[int, int], int]]:
    pieces = [*SPECIALS, *_NIBBLES, *_CHARACTERS]
    piece_to_id = {piece: i for i, piece in enumerate(pieces)}
    pair_to_id = {}
    for left, right in _merge_rules():
        if len(pieces) < VOCABULARY_SIZE and left + right not in piece_to_id:
            pair_to_id[piece_to_id[left], piece_to_id[right]] = piece_to_id[left + right] = len(pieces)
            pieces.append(left + right)
    assert len(pieces) == VOCABULARY_SIZE
    return tuple(pieces), pair_to_id


PIECES, _PAIR_TO_ID = _vocabulary()
_SPECIAL_TO_ID = {text: i for i, text in enumerate(SPECIALS)}
_CHARACTER_TO_ID = {character: _FIRST_CHARACTER + i for i, character in enumerate(_CHARACTERS)}


class ToyTokenizer:
    """Byte-pair merges over ASCII, three special tokens, and half bytes for every other character.

    Merges cross word borders, so that the tokens of a text and of its continuation are often not those of the
    two together: ``"Ans"`` and ``"wer"`` are one token each, and ``"Answer"`` is one as well.

    Parameters
    ----------
    bos : bool
        Whether ``add_special_tokens`` puts ``<s>`` in front, as Llama's tokenizer does.
    leading_space : bool
        Whether every text is read with a space before it, which decoding drops, as SentencePiece does.
    thinking : str
        Whether its template for chats opens a thought before every answer: ``never``, ``unless_told`` by the
        switch ``enable_thinking``, or ``always``.
    """

    def __init__(
        self,
        *,
        bos: bool = True,
        leading_space: bool = False,
        thinking: Literal["never", "unless_told", "always"] = "never",
    ) -> None:
        self.bos = bos
        self.leading_space = leading_space
        self.thinking = thinking

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """Return the token ids of ``text``."""
        ids = _encode(" " + text if self.leading_space and text else text)
        return (BOS, *ids) if self.bos and add_special_tokens else ids

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], switches: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """Return the token ids of messages as the template writes them, with the start of the answer.

        The template: ``<s>``, then ``<|user|>`` and a line per user's message, a line per system's, the
        assistant's ended by ``</s>``; the answer starts at once, or after ``<think>`` and a line break.
        """
        text = SPECIALS[BOS] + switches.get("preface", "")
        for message in messages:
            start, end = _ROLE_TO_FRAME[message["role"]]
            text += start + message["content"] + end
        thinks = self.thinking == "always" or (
            self.thinking == "unless_told" and switches.get("enable_thinking", True)
        )
        return self.encode(text + ("<think>\n" if thinks else ""), add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens included; half characters become U+FFFD."""
        text = "".join(_texts(ids))
        if not self.leading_space:
            return text
        start = len(SPECIALS[BOS]) if text.startswith(SPECIALS[BOS]) else 0
        return text[:start] + text[start:].removeprefix(" ")


@lru_cache(4096)
def _encode(text: str) -> tuple[int, ...]:
    ids: list[int] = []
    for part in _SPECIAL.split(text):
        if part in _SPECIAL_TO_ID:
            ids.append(_SPECIAL_TO_ID[part])
        else:
            ids += _merged([i for character in part for i in _spelled(character)])
    return tuple(ids)


def _spelled(character: str) -> Iterable[int]:
    known = _CHARACTER_TO_ID.get(character)
    if known is not None:
        return (known,)
    return (_FIRST_NIBBLE + half for byte in character.encode() for half in divmod(byte, 16))


def _merged(ids: list[int]) -> list[int]:
    while True:
        # Merged tokens are numbered in their order of precedence.
        best = min((_PAIR_TO_ID[pair] for pair in pairwise(ids) if pair in _PAIR_TO_ID), default=None)
        if best is None:
            return ids
        merged: list[int] = []
        for token in ids:
            if merged and _PAIR_TO_ID.get((merged[-1], token)) == best:
                merged[-1] = best
            else:
                merged.append(token)
        ids = merged


def _texts(ids: Sequence[int]) -> Iterator[str]:
    halves: list[int] = []
    for token in [*ids, None]:
        if token is not None and _FIRST_NIBBLE <= token < _FIRST_CHARACTER:
            halves.append(token - _FIRST_NIBBLE)
            continue
        if halves:
            whole = bytes(16 * high + low for high, low in zip(halves[::2], halves[1::2], strict=False))
            yield whole.decode(errors="replace") + "\ufffd" * (len(halves) % 2)
            halves = []
        if token is not None:
            yield PIECES[token]
