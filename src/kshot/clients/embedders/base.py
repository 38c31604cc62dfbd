"""The embedder contract: what goes in, what comes out, and the checks that every embedder shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s, require_finite, require_shape
from kshot.errors import FieldError, InvalidInput, InvalidParameter, InvalidShape

Int32s: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """What an embedder makes of n texts, checked when it is built.

    Attributes
    ----------
    vectors : float32 array, shape (n, d)
        Sentence vectors, unit rows.
    truncated : bool array, shape (n,)
        True where the embedder did not read the whole text.
    tokens : float32 array, shape (t, d_t), or None
        Token vectors of all texts, one text after the other, unit rows. None if none were asked for or the
        embedder has none.
    offsets : int64 array, shape (n + 1,), or None
        Text i has the tokens ``offsets[i]:offsets[i + 1]``; every text has at least one.
    token_ids : int32 array, shape (t,), or None
        Vocabulary ids, non-negative.
    special : bool array, shape (t,), or None
        True for markers such as [CLS] and [SEP]: they may be matched, they are never weighted.
    spans : int32 array, shape (t, 2), or None
        Start and end of each token in its text, in characters; (0, 0) for markers. None unless asked for.
    """

    vectors: Float32s
    truncated: Bools
    tokens: Float32s | None = None
    offsets: Int64s | None = None
    token_ids: Int32s | None = None
    special: Bools | None = None
    spans: Int32s | None = None

    def __post_init__(self) -> None:
        n = len(self.vectors)
        require_shape("vectors", self.vectors, (n, None))
        require_finite("vectors", self.vectors)
        require_shape("truncated", self.truncated, (n,))
        parts = (self.tokens, self.offsets, self.token_ids, self.special)
        absent = [part is None for part in parts]
        if any(absent) and not all(absent):
            raise InvalidShape("tokens, offsets, token_ids and special are given together or not at all")
        if self.tokens is None or self.offsets is None:
            return
        t = len(self.tokens)
        require_shape("tokens", self.tokens, (t, None))
        require_finite("tokens", self.tokens)
        require_shape("offsets", self.offsets, (n + 1,))
        if self.offsets[0] != 0 or self.offsets[-1] != t or not (np.diff(self.offsets) >= 1).all():
            raise InvalidShape(f"offsets do not cut {t} tokens into {n} texts of at least one token")
        require_shape("token_ids", np.asarray(self.token_ids), (t,))
        require_shape("special", np.asarray(self.special), (t,))
        if self.spans is not None:
            require_shape("spans", self.spans, (t, 2))

    def __len__(self) -> int:
        return len(self.vectors)

    def one(self, i: int) -> "TextFeatures":
        """Copy text i out of the batch, so that it does not keep the other texts' memory alive."""
        if self.offsets is None:
            return TextFeatures(self.vectors[i : i + 1].copy(), self.truncated[i : i + 1].copy())
        cut = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return TextFeatures(
            vectors=self.vectors[i : i + 1].copy(),
            truncated=self.truncated[i : i + 1].copy(),
            tokens=None if self.tokens is None else self.tokens[cut].copy(),
            offsets=np.array([0, cut.stop - cut.start], dtype=np.int64),
            token_ids=None if self.token_ids is None else self.token_ids[cut].copy(),
            special=None if self.special is None else self.special[cut].copy(),
            spans=None if self.spans is None else self.spans[cut].copy(),
        )

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays, in bytes."""
        return sum(array.nbytes for array in self._arrays())

    def freeze(self) -> None:
        """Make the arrays read-only, for features that several callers share."""
        for array in self._arrays():
            array.flags.writeable = False

    def _arrays(self) -> list[NDArray[Any]]:
        parts: tuple[NDArray[Any] | None, ...] = (
            self.vectors,
            self.truncated,
            self.tokens,
            self.offsets,
            self.token_ids,
            self.special,
            self.spans,
        )
        return [part for part in parts if part is not None]


class Embedder(Protocol):
    """Turns texts into sentence vectors and, where it can, token vectors.

    Lifetime: built by `kshot.clients.embedders.factory.build_embedder`, used for the life of the process,
    then closed. After ``close`` it must not be used.

    Threads: every method may be called from any thread, several at a time.

    Determinism: a text's features depend on the text alone. The other texts of the call and their order
    change a number by rounding only, at most 1e-5.
    """

    @property
    def fingerprint(self) -> str:
        """Name and checksum of what makes the vectors: equal fingerprints give comparable vectors."""
        ...

    @property
    def dimension(self) -> int | None:
        """Length d of a sentence vector; None for an endpoint that was not told and has not answered yet."""
        ...

    @property
    def token_layers(self) -> int | None:
        """Highest layer that ``token_layer`` may name (0 is the lowest); None without token vectors."""
        ...

    @property
    def default_token_layer(self) -> int | None:
        """The layer for pools that name none; None without token vectors."""
        ...

    def encode(self, texts: Sequence[str], *, token_layer: int | None, spans: bool = False) -> TextFeatures:
        """Return the features of ``texts``, in their order.

        Parameters
        ----------
        texts : sequence of str
            Any text, also empty; not a lone surrogate, as that is not text.
        token_layer : int or None
            Layer to take token vectors from; None for sentence vectors only.
        spans : bool
            Fill `TextFeatures.spans`; without a ``token_layer`` it has no effect.

        Raises
        ------
        InvalidInput
            A text is not valid Unicode, or the embedder refuses it.
        InvalidParameter
            The embedder has no such layer.
        EmbedderUnavailable
            A remote embedder does not answer; worth a retry.
        """
        ...

    def encode_layers(self, texts: Sequence[str], layers: Sequence[int]) -> list[TextFeatures]:
        """Return the features of ``texts`` once per layer, for hardly more than the cost of one `encode`.

        Parameters
        ----------
        texts : sequence of str
            As in `encode`.
        layers : sequence of int
            Layers to take token vectors from.

        Raises
        ------
        InvalidInput
            A text is not valid Unicode, or the embedder refuses it.
        InvalidParameter
            The embedder has no such layer.
        """
        ...

    def close(self) -> None:
        """Free connections and memory; a second call does nothing."""
        ...


def check_texts(texts: Sequence[Any]) -> None:
    """Refuse what is not text: other types, and lone surrogates, which no encoder can read.

    Raises
    ------
    InvalidInput
        ``errors`` points at each refused position; the texts themselves are not quoted.
    """
    if isinstance(texts, str):
        raise InvalidInput("texts is one str, wanted a sequence of str")
    refused = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            refused.append(FieldError(f"/{i}", f"is {type(text).__name__}, wanted str"))
        elif not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                refused.append(FieldError(f"/{i}", f"has a lone surrogate at character {error.start}"))
    if refused:
        raise InvalidInput(f"text {refused[0].pointer[1:]} {refused[0].message}", errors=refused)


def check_token_layer(token_layer: int | None, layers: int | None) -> None:
    """Refuse a layer that an embedder with ``layers`` layers does not have.

    Raises
    ------
    InvalidParameter
        The message names the layer received and those allowed.
    """
    if token_layer is None:
        return
    if layers is None:
        raise InvalidParameter(f"token_layer is {token_layer}, but this embedder has no token vectors")
    if not 0 <= token_layer <= layers:
        raise InvalidParameter(f"token_layer is {token_layer}, allowed 0 to {layers}")
