"""The model's tokenizer from its file, so that a server need not be asked for every text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kshot.clients.scorers.tokenization import LocalTokenizer
from kshot.errors import InvalidParameter, MissingDependency

FILE = "tokenizer.json"


class FileTokenizer:
    """The tokenizer of a ``tokenizer.json``, as the model's own; chats are left to the server.

    Parameters
    ----------
    path : Path
        The file, or the folder that holds it.

    Raises
    ------
    InvalidParameter
        The file is not there, or is no tokenizer.
    MissingDependency
        tokenizers is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer as RustTokenizer  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise MissingDependency.of(
                "tokenizers", extra="tokenizers", purpose=f"The scorer's tokenizer {path}"
            ) from error
        file = path / FILE if path.is_dir() else path
        try:
            self._tokenizer: Any = RustTokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the Rust parser raises plain Exception
            raise InvalidParameter(f"the scorer's tokenizer {file} cannot be read: {error}") from error
        # Files often carry the training set-up.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """Return the token ids of ``text``."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens spelled out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def found_beside(root: str) -> LocalTokenizer | None:
    """Return the tokenizer of a server's model, where its folder is one of this machine; None elsewhere.

    Parameters
    ----------
    root : str
        Where the server loaded its model from, as it says.
    """
    folder = Path(root)
    if not folder.is_absolute() or not (folder / FILE).is_file():
        return None
    try:
        return FileTokenizer(folder)
    except (InvalidParameter, MissingDependency):
        # Nobody asked for it: the server is asked instead.
        return None
