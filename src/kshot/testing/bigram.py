"""A language model that can be worked out by hand: every next token depends on two tokens before it."""

from collections.abc import Iterable, Sequence

import numpy as np

from kshot.arrays import Float64s
from kshot.testing.toy_tokenizer import PIECES, VOCABULARY_SIZE


class BigramModel:
    """Interpolates three distributions of the next token.

    ``p(y | x_1 .. x_n) = 0.6 B[x_n, y] + 0.3 F[x_1, y] + 0.1 U[y]``: B by the last token, F by the first, so
    that a prompt which lost its beginning is noticed, U by none. It knows one thing: that "Paris" may well
    follow "is".

    Parameters
    ----------
    seed : int
        Other seeds are other models.
    impossible : iterable of (int, int)
        Pairs (last token, next token) of probability 0; the rest of the row is scaled to sum to 1.
    """

    def __init__(self, seed: int = 0, *, impossible: Iterable[tuple[int, int]] = ()) -> None:
        rng = np.random.default_rng(seed)
        size = VOCABULARY_SIZE
        by_last = 2.0 * rng.standard_normal((size, size))
        by_last[PIECES.index(" is"), PIECES.index(" Paris")] += 12.0
        self._by_last = _softmax(by_last)
        self._by_first = _softmax(2.0 * rng.standard_normal((size, size)))
        self._unigram = _softmax(rng.standard_normal((1, size)))[0]
        self._impossible: dict[int, list[int]] = {}
        for last, following in impossible:
            self._impossible.setdefault(last, []).append(following)

    def log_probs(self, prompt: Sequence[int]) -> Float64s:
        """Return ln p(y | prompt) of every token y, shape (200,); the prompt has at least one token."""
        last, first = prompt[-1], prompt[0]
        row = 0.6 * self._by_last[last] + 0.3 * self._by_first[first] + 0.1 * self._unigram
        if last in self._impossible:
            row[self._impossible[last]] = 0.0
            row /= row.sum()
        with np.errstate(divide="ignore"):
            logs: Float64s = np.log(row)
        return logs

    def token_nats(self, context: Sequence[int], completion: Sequence[int]) -> list[float]:
        """Return ln p of each token of ``completion`` given ``context`` and the tokens before it."""
        fed = [*context, *completion]
        return [float(self.log_probs(fed[:i])[fed[i]]) for i in range(len(context), len(fed))]

    def sum_nats(self, context: Sequence[int], completion: Sequence[int]) -> float:
        """Return ln p(completion | context)."""
        return float(sum(self.token_nats(context, completion)))


def _softmax(logits: Float64s) -> Float64s:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Float64s = weights / weights.sum(axis=1, keepdims=True)
    return probabilities
