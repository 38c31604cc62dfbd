"""Tokenizers as files: what a ``tokenizer.json`` holds."""

from pathlib import Path
from typing import Any

from kshot.errors import InvalidParameter, MissingDependency

FILE = "tokenizer.json"


def load_tokenizer_json(path: Path, what: str) -> Any:
    """Return the ``tokenizers.Tokenizer`` of a file, which neither cuts nor pads.

    Parameters
    ----------
    path : Path
        The file, or the folder that holds it.
    what : str
        Whose it is, for messages.

    Raises
    ------
    InvalidParameter
        The file is not there, or is no tokenizer.
    MissingDependency
        tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingDependency.of("tokenizers", extra="tokenizers", purpose=f"{what} {path}") from error
    file = path / FILE if path.is_dir() else path
    try:
        tokenizer: Any = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the Rust parser raises plain Exception
        raise InvalidParameter(f"{what} {file} cannot be read: {error}") from error
    # Files often carry the training set-up, in which every text has the same length.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
