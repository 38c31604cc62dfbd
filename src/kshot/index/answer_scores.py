"""How unlikely a model finds the answers of examples: their difficulty, where a pool says so."""

import logging
import os
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float64s, Int64s, require_shape

ANSWER_NLL = "answer_nll"
"""Minus the log-probability of the answer given the question, in nats."""
ANSWER_PERPLEXITY = "answer_perplexity"
"""The exponential of that per token: in how many ways each token might go on."""
ANSWER_FIELDS = (ANSWER_NLL, ANSWER_PERPLEXITY)
"""The names by which a pool asks for them as fields of numbers."""

FILE_NAME = "answers.npz"
_LOG = logging.getLogger(__name__)
_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """What one model said of the answers of example versions.

    Attributes
    ----------
    key : str
        Names the model and the prompt; what was said under another key is not comparable.
    seqs : int64 array, shape (n,)
        Example versions, strictly ascending.
    nats : float64 array, shape (n,)
        ln p(answer | question); ``-inf`` where the model rules it out.
    tokens : int64 array, shape (n,)
        Of the answers, at least 1.
    """

    key: str
    seqs: Int64s
    nats: Float64s
    tokens: Int64s

    def __post_init__(self) -> None:
        require_shape("nats", self.nats, self.seqs.shape)
        require_shape("tokens", self.tokens, self.seqs.shape)

    @classmethod
    def nothing(cls, key: str = "") -> "AnswerTable":
        """Know no answer."""
        return cls(key, np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))

    def places(self, seqs: Int64s) -> tuple[Int64s, Bools]:
        """Return where versions stand in the table, and whether they do."""
        if not len(self.seqs):
            return np.zeros(len(seqs), np.int64), np.zeros(len(seqs), np.bool_)
        places = np.minimum(np.searchsorted(self.seqs, seqs), len(self.seqs) - 1)
        return places, self.seqs[places] == seqs

    def numbers(self, name: str) -> Float64s:
        """Return the difficulties of the versions, finite, larger where an answer is less likely."""
        nll = -self.nats
        if name == ANSWER_PERPLEXITY:
            with np.errstate(over="ignore"):
                nll = np.exp(nll / self.tokens)
        return np.minimum(nll, _LARGEST)


class AnswerScores:
    """The table of one pool: read when it is first asked for, replaced as a whole, kept in a file.

    Any number of threads may ask.

    Parameters
    ----------
    path : Path or None
        The file; None keeps it in memory only.

    Attributes
    ----------
    generation : int
        Counts the replacements.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._table: AnswerTable | None = None
        self.generation = 0

    @property
    def table(self) -> AnswerTable:
        """What is known."""
        with self._lock:
            if self._table is None:
                self._table = AnswerTable.nothing() if self._path is None else _load(self._path)
            return self._table

    def replace(self, table: AnswerTable) -> None:
        """Know this and nothing else from now on.

        Raises
        ------
        OSError
            The file cannot be written; everything stays as it was.
        """
        with self._lock:
            if self._path is not None:
                _save(self._path, table)
            self._table = table
            self.generation += 1

    def of(self, name: str, seqs: Int64s, live: Bools) -> Float64s:
        """Return the difficulty of each row.

        Parameters
        ----------
        name : str
            One of `ANSWER_FIELDS`.
        seqs : int64 array, shape (n,)
            Example version of each row.
        live : bool array, shape (n,)

        Returns
        -------
        float64 array, shape (n,)
            NaN where the row is not live, or nobody scored that version.
        """
        table = self.table
        found = np.full(len(seqs), np.nan)
        rows = np.flatnonzero(live)
        places, is_there = table.places(seqs[rows])
        found[rows[is_there]] = table.numbers(name)[places[is_there]]
        return found


def _save(path: Path, table: AnswerTable) -> None:
    """Write the table; it appears under its name once every byte of it is on disk."""
    temporary = path.with_name(f"tmp-{path.name}")
    with temporary.open("wb") as file:
        key: NDArray[np.uint8] = np.frombuffer(table.key.encode(), np.uint8)
        np.savez(file, key=key, seqs=table.seqs, nats=table.nats, tokens=table.tokens)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _load(path: Path) -> AnswerTable:
    """Read the table; a file that is damaged is as good as none, since all of it can be computed again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            key = arrays["key"].tobytes().decode()
            return AnswerTable(key, arrays["seqs"], arrays["nats"], arrays["tokens"])
    except FileNotFoundError:
        return AnswerTable.nothing()
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _LOG.warning("difficulties were not read: %s", error)
        return AnswerTable.nothing()
