"""Hashed words and character trigrams: vectors without a model, for tests and first steps.

Similarity is lexical only: texts are near when they share words or parts of words. Word vectors made of
hashed character n-grams follow [1]_; the sign bit that keeps collisions unbiased follows [2]_.

References
----------
.. [1] Bojanowski, Grave, Joulin, Mikolov (2017), Enriching word vectors with subword information, TACL 5.
.. [2] Weinberger, Dasgupta, Langford, Smola, Attenberg (2009), Feature hashing for large scale multitask
   learning, ICML.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import islice

import numpy as np

from kshot.arrays import Bools, Float32s, Float64s, Int64s
from kshot.clients.embedders.base import TextFeatures, check_texts, check_token_layer
from kshot.errors import InvalidParameter

MAX_WORDS = 1_000
"""Words read of one text; what follows is cut and flagged."""
_WORDS = re.compile(r"\w{1,100}|[^\w\s]{1,100}")  # a longer run of characters counts as several words
_START, _END = 0, 1
_FIRST_WORD_ID = 2


class HashingEmbedder:
    """Embeds texts by hashing; needs no model, no file and no network.

    A word's vector is the normalised sum of signed unit features, one for the lower-cased word and one for
    each character trigram of ``<word>``. A text's vector is the normalised sum of its words' vectors, its
    tokens are its words between two markers that take the place of [CLS] and [SEP]. There is one token layer,
    and numbers 0 and 1 both name it. Deterministic on every machine; stateless but for a cache of words.

    Parameters
    ----------
    dimension : int
        Length of sentence and token vectors, >= 1.

    Raises
    ------
    InvalidParameter
        ``dimension`` is below 1.
    """

    def __init__(self, dimension: int = 128) -> None:
        if dimension < 1:
            raise InvalidParameter(f"dimension is {dimension}, allowed >= 1")
        self._dimension = dimension
        self._markers = np.stack([_feature_sum([marker], dimension) for marker in ("\x02", "\x03")])

    @property
    def fingerprint(self) -> str:
        """Name, version of the features and dimension."""
        return f"hashing-1/{self._dimension}"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def token_layers(self) -> int:
        """One."""
        return 1

    @property
    def default_token_layer(self) -> int:
        """The only one."""
        return 1

    def encode(self, texts: Sequence[str], *, token_layer: int | None, spans: bool = False) -> TextFeatures:
        """Return the features of ``texts``; see `Embedder.encode`.

        Notes
        -----
        O(words) with a dictionary look-up for each word seen before.
        """
        check_texts(texts)
        check_token_layer(token_layer, self.token_layers)
        vectors = np.empty((len(texts), self._dimension), dtype=np.float32)
        truncated = np.zeros(len(texts), dtype=np.bool_)
        encoded = []
        for i, text in enumerate(texts):
            words, truncated[i] = _split(text)
            rows = [_word(text[start:stop].lower(), self._dimension) for start, stop in words]
            vectors[i] = self._sentence([vector for vector, _ in rows])
            encoded.append((words, rows))
        if token_layer is None:
            return TextFeatures(vectors, truncated)
        offsets = np.cumsum([0, *(len(words) + 2 for words, _ in encoded)], dtype=np.int64)
        tokens = np.empty((int(offsets[-1]), self._dimension), dtype=np.float32)
        token_ids = np.empty(len(tokens), dtype=np.int32)
        special, where = _special(offsets), np.zeros((len(tokens), 2), dtype=np.int32)
        tokens[offsets[:-1]], tokens[offsets[1:] - 1] = self._markers
        token_ids[offsets[:-1]], token_ids[offsets[1:] - 1] = _START, _END
        for i, (words, rows) in enumerate(encoded):
            if words:
                inner = slice(int(offsets[i]) + 1, int(offsets[i + 1]) - 1)
                tokens[inner] = [vector for vector, _ in rows]
                token_ids[inner] = [word_id for _, word_id in rows]
                where[inner] = words
        return TextFeatures(vectors, truncated, tokens, offsets, token_ids, special, where if spans else None)

    def encode_layers(self, texts: Sequence[str], layers: Sequence[int]) -> list[TextFeatures]:
        """Return the features of ``texts`` once per layer; see `Embedder.encode_layers`."""
        return [self.encode(texts, token_layer=layer) for layer in layers]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _sentence(self, words: list[Float32s]) -> Float64s:
        total = np.zeros(self._dimension)
        for word in words:
            total += word
        norm = float(np.linalg.norm(total))
        # No word, or words that cancel out: a text still needs a direction.
        return total / norm if norm > 1e-6 else self._markers[0].astype(np.float64)


def _special(offsets: Int64s) -> Bools:
    special = np.zeros(int(offsets[-1]), dtype=np.bool_)
    special[offsets[:-1]] = special[offsets[1:] - 1] = True
    return special


def _split(text: str) -> tuple[list[tuple[int, int]], bool]:
    found: Iterator[re.Match[str]] = _WORDS.finditer(text)
    words = [(match.start(), match.end()) for match in islice(found, MAX_WORDS)]
    return words, next(found, None) is not None


@lru_cache(maxsize=1 << 15)
def _word(word: str, dimension: int) -> tuple[Float32s, int]:
    padded = f"<{word}>"
    vector = _feature_sum([word, *(padded[i : i + 3] for i in range(len(padded) - 2))], dimension)
    return vector, _FIRST_WORD_ID + _hash(word) % (2**31 - _FIRST_WORD_ID)


def _feature_sum(features: Sequence[str], dimension: int) -> Float32s:
    total = np.zeros(dimension, dtype=np.float64)
    for feature in features:
        number = _hash(feature)
        total[(number >> 1) % dimension] += 1.0 if number & 1 else -1.0
    if not total.any():
        # Every feature met its opposite in the same place; the first one alone cannot.
        return _feature_sum(features[:1], dimension)
    vector: Float32s = (total / np.linalg.norm(total)).astype(np.float32)
    vector.flags.writeable = False
    return vector


def _hash(feature: str) -> int:
    return int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
