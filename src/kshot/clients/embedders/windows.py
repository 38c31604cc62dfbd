"""Cut texts into token windows that a model can read, and windows into batches that it reads fast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Bools, Int64s
from kshot.clients.embedders.base import Int32s
from kshot.errors import MissingDependency

MAX_WINDOWS = 4
"""Windows read of one text; what follows is cut and flagged."""
MAX_PADDED_TOKENS = 512
"""Tokens of a batch, padding included: more is slower, as activations no longer fit the processor's cache."""
MAX_ADDED_PADDING = 12
"""Padding that one more window may cause: the reading of the weights once more costs as much as 12 tokens."""
_MAX_CHARACTERS_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of n texts, in text order: w windows of t tokens in all, markers included.

    Attributes
    ----------
    token_ids : int32 array, shape (t,)
    special : bool array, shape (t,)
        True for the markers that the tokenizer adds around every window.
    spans : int32 array, shape (t, 2), or None
        Characters of each token in its text.
    starts : int64 array, shape (w + 1,)
        Window i has the tokens ``starts[i]:starts[i + 1]``, at least one.
    texts : int64 array, shape (w,)
        The text that a window belongs to, ascending; every text has at least one window.
    truncated : bool array, shape (n,)
    """

    token_ids: Int32s
    special: Bools
    spans: Int32s | None
    starts: Int64s
    texts: Int64s
    truncated: Bools

    @property
    def offsets(self) -> Int64s:
        """Text i has the tokens ``offsets[i]:offsets[i + 1]``."""
        n = len(self.truncated)
        return self.starts[np.searchsorted(self.texts, np.arange(n + 1))]


class WindowTokenizer:
    """A Hugging Face tokenizer that cuts long texts into windows instead of dropping their end.

    Any number of threads may share it.

    Parameters
    ----------
    serialised : str
        Content of a ``tokenizer.json``; truncation and padding set in it are ignored.
    max_tokens : int
        Tokens of a window, markers included.
    """

    def __init__(self, serialised: str, max_tokens: int) -> None:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingDependency.of("tokenizers", extra="embedded", purpose="a local embedder") from error

        self._tokenizer = Tokenizer.from_str(serialised)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, direction="right")
        self._max_characters = MAX_WINDOWS * max_tokens * _MAX_CHARACTERS_PER_TOKEN

    def windows(self, texts: Sequence[str], *, spans: bool = False) -> Windows:
        """Cut each text into at most `MAX_WINDOWS` consecutive windows.

        Parameters
        ----------
        texts : sequence of str
        spans : bool
            Fill `Windows.spans`.

        Notes
        -----
        Only the first ``32 * MAX_WINDOWS * max_tokens`` characters are read, so that a text of any size costs
        a bounded time; ordinary prose has 4 to 5 characters per token.
        """
        read = [text[: self._max_characters] for text in texts]
        # The fast form leaves out spans.
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        windows: list[Any] = []
        owners: list[int] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for i, encoding in enumerate(encode(read)):
            cut = [encoding, *encoding.overflowing]
            truncated[i] = len(cut) > MAX_WINDOWS or len(read[i]) < len(texts[i])
            windows += cut[:MAX_WINDOWS]
            owners += [i] * min(len(cut), MAX_WINDOWS)
        ids = [window.ids for window in windows]
        return Windows(
            token_ids=_joined(ids, np.dtype(np.int32)),
            special=_joined([window.special_tokens_mask for window in windows], np.dtype(np.bool_)),
            spans=_joined([window.offsets for window in windows], np.dtype(np.int32)).reshape(-1, 2)
            if spans
            else None,
            starts=np.cumsum([0, *map(len, ids)], dtype=np.int64),
            texts=np.array(owners, dtype=np.int64),
            truncated=truncated,
        )


def _joined(parts: list[Any], dtype: np.dtype[Any]) -> Any:
    return np.array([item for part in parts for item in part], dtype=dtype)


def batches(lengths: Int64s) -> Iterator[Int64s]:
    """Group windows of similar length into batches, each of one window or within the two limits above.

    Parameters
    ----------
    lengths : int64 array, shape (w,)

    Yields
    ------
    int64 array
        Positions in ``lengths``; together they cover each position once.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order].tolist()
    first = 0
    for i in range(1, len(ascending)):
        count = i - first
        full = ascending[i] * (count + 1) > MAX_PADDED_TOKENS
        if full or (ascending[i] - ascending[i - 1]) * count > MAX_ADDED_PADDING:
            yield order[first:i]
            first = i
    if ascending:
        yield order[first:]
