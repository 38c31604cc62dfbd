"""How long the outputs of examples are: their difficulty, where a pool says so."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from kshot.arrays import Bools, Float64s, Int64s

OUTPUT_LENGTH = "output_length"
"""The name by which a pool asks for them as a field of numbers."""

LoadLengths = Callable[[Sequence[int]], "list[int | None]"]
"""Characters of the outputs of example versions, by seq; None where a version is gone."""


class OutputLengths:
    """Reads lengths when they are first asked for, and then only those of new versions.

    Any number of threads may ask; one reads at a time.
    """

    def __init__(self, load: LoadLengths) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._seq_to_length: dict[int, int] = {}

    def of(self, seqs: Int64s, live: Bools) -> Float64s:
        """Return the length of each row's outputs.

        Parameters
        ----------
        seqs : int64 array, shape (n,)
            Example version of each row.
        live : bool array, shape (n,)

        Returns
        -------
        float64 array, shape (n,)
            In characters; NaN where the row is not live, or its version has been erased since.
        """
        found = np.full(len(seqs), np.nan)
        rows = np.flatnonzero(live)
        wanted = seqs[rows].tolist()
        with self._lock:
            known = self._seq_to_length
            new = [seq for seq in wanted if seq not in known]
            loaded = {seq: size for seq, size in zip(new, self._load(new), strict=True) if size is not None}
            self._seq_to_length = {seq: known[seq] for seq in wanted if seq in known} | loaded
            found[rows] = [self._seq_to_length.get(seq, np.nan) for seq in wanted]
        return found
