"""Count the tokens of prompt texts, by the model's own tokenizer or by an estimate."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kshot.arrays import Int64s
from kshot.clients.embedders.base import check_texts
from kshot.clients.tokenizer_json import load_tokenizer_json
from kshot.errors import InvalidParameter, MissingDependency, Unavailable
from kshot.formatting import estimated_tokens

ESTIMATE = "estimate"
_TIKTOKEN = "tiktoken:"
_FORMS = (
    f"'{ESTIMATE}', a folder that holds tokenizer.json, a tokenizer.json file, "
    f"or '{_TIKTOKEN}ENCODING' such as '{_TIKTOKEN}o200k_base'"
)


class Tokenizer(Protocol):
    """Counts tokens. Stateless once built, so any number of threads may share one."""

    @property
    def name(self) -> str:
        """As given to `build_tokenizer`."""
        ...

    @property
    def exact(self) -> bool:
        """False if the counts are an estimate."""
        ...

    def count(self, texts: Sequence[str]) -> Int64s:
        """Return the tokens of each text, shape (n,), without the model's own start and end markers.

        Raises
        ------
        InvalidInput
            A text holds a lone surrogate.
        """
        ...


class EstimatingTokenizer:
    """Characters / 3.5, rounded up: about right for English, too low for most other scripts."""

    name = ESTIMATE
    exact = False

    def count(self, texts: Sequence[str]) -> Int64s:
        """See `Tokenizer.count`."""
        check_texts(texts)
        return np.array([estimated_tokens(text) for text in texts], dtype=np.int64)


class HuggingFaceTokenizer:
    """The tokenizer of a ``tokenizer.json``.

    Parameters
    ----------
    path : Path
        The file, or the folder that holds it.

    Raises
    ------
    InvalidParameter
        The file is no tokenizer.
    MissingDependency
        tokenizers is not installed.
    """

    exact = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._tokenizer = load_tokenizer_json(path, "tokenizer")

    def count(self, texts: Sequence[str]) -> Int64s:
        """See `Tokenizer.count`."""
        check_texts(texts)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.array([len(encoding) for encoding in encodings], dtype=np.int64)


class TiktokenTokenizer:
    """A byte-pair encoding of OpenAI's models; text that looks like a marker counts as plain text.

    Parameters
    ----------
    encoding : tiktoken.Encoding
    """

    exact = True

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self.name = f"{_TIKTOKEN}{encoding.name}"

    @classmethod
    def named(cls, name: str) -> "TiktokenTokenizer":
        """Load an encoding by name; tiktoken fetches its vocabulary once and keeps it in its own cache.

        Raises
        ------
        InvalidParameter
            tiktoken knows no such encoding; the message lists those it knows.
        MissingDependency
            tiktoken is not installed.
        Unavailable
            The vocabulary is neither cached nor can it be fetched.
        """
        try:
            import tiktoken  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingDependency.of("tiktoken", extra="tiktoken", purpose=f"{_TIKTOKEN}{name}") from error
        known = tiktoken.list_encoding_names()
        if name not in known:
            raise InvalidParameter(f"tokenizer {_TIKTOKEN}{name} is unknown; allowed: {', '.join(known)}")
        try:
            return cls(tiktoken.get_encoding(name))
        except (OSError, ValueError) as error:  # network failures are OSErrors
            raise Unavailable(
                f"tokenizer {_TIKTOKEN}{name}: tiktoken cannot fetch the vocabulary "
                f"({type(error).__name__}); without internet, bring a "
                "filled folder and name it in TIKTOKEN_CACHE_DIR"
            ) from error

    def count(self, texts: Sequence[str]) -> Int64s:
        """See `Tokenizer.count`."""
        check_texts(texts)
        return np.array([len(self._encoding.encode_ordinary(text)) for text in texts], dtype=np.int64)


def build_tokenizer(name: str | None) -> Tokenizer:
    """Return the tokenizer of that name.

    Parameters
    ----------
    name : str or None
        None or ``estimate``; a folder that holds ``tokenizer.json``, or such a file; ``tiktoken:ENCODING``.

    Raises
    ------
    InvalidParameter
        Nothing has that name; the message lists the allowed forms.
    MissingDependency
        The package that reads it is not installed.
    Unavailable
        A vocabulary has to be fetched and cannot be.
    """
    if name is None or name == ESTIMATE:
        return EstimatingTokenizer()
    if name.startswith(_TIKTOKEN):
        return TiktokenTokenizer.named(name.removeprefix(_TIKTOKEN))
    path = Path(name)
    with suppress(OSError):  # such as a name that is too long for a file
        if path.is_file() or (path / "tokenizer.json").is_file():
            return HuggingFaceTokenizer(path)
    raise InvalidParameter(f"tokenizer {name!r} is not found; allowed: {_FORMS}")
