"""Similarities and row numbers in one number each, so that ranking them is sorting."""

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float32s, Float64s
from kshot.selectors.annotation.neighbour_graph import Int32s

STEPS = 2.0**24
"""Steps from 0 to 1 that similarities are rounded to: all that float32 can tell just below 1."""
SPAN = 2.0**27
"""Above any row number. A key holds a similarity, in steps, times this, and a row number: 52 bits in all."""
SCALE = 2.0**12
"""Rows of this length have products in steps."""


def keys_of(steps: Float64s, rows: NDArray[np.integer]) -> Float64s:
    """Turn similarities, in steps, into keys: the most similar has the lowest, of equals the first row.

    The steps are rounded and overwritten.
    """
    np.rint(steps, out=steps)
    steps *= -SPAN
    steps += rows
    return steps


def steps_of(keys: Float64s) -> Float64s:
    """Return the similarities of keys, in steps."""
    steps: Float64s = -np.floor(keys / SPAN)
    return steps


def ranked(keys: Float64s, k: int) -> tuple[Int32s, Float32s]:
    """Return row numbers and similarities of the k lowest keys of each line, lowest first.

    The order of the keys is lost.
    """
    if not k:
        return np.empty((len(keys), 0), np.int32), np.empty((len(keys), 0), np.float32)
    keys.partition(k - 1, axis=1)
    best = np.sort(keys[:, :k], axis=1)
    steps = steps_of(best)
    similarities = np.clip(steps / STEPS, -1.0, 1.0).astype(np.float32)
    return (best + steps * SPAN).astype(np.int32), similarities
