"""The model's tokenizer from its file, so that a server need not be asked for every text."""

import os.path
from collections.abc import Sequence
from pathlib import Path

from kshot.clients.scorers.tokenization import LocalTokenizer
from kshot.clients.tokenizer_json import FILE, load_tokenizer_json
from kshot.errors import InvalidParameter, MissingDependency


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
        self._tokenizer = load_tokenizer_json(path, "the scorer's tokenizer")

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

    Reads the file, which may take a second.

    Parameters
    ----------
    root : str
        Where the server loaded its model from, as it says.
    """
    folder = Path(root)
    # `Path.is_file` raises where the folder belongs to somebody else.
    if not folder.is_absolute() or not os.path.isfile(folder / FILE):  # noqa: PTH113
        return None
    try:
        return FileTokenizer(folder)
    except (InvalidParameter, MissingDependency):
        # Nobody asked for it: the server is asked instead.
        return None
