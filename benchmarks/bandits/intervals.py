"""How sure a mean over seeds or runs is."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit


class Mean(NamedTuple):
    """A mean and how far its 95 % interval reaches on either side; NaN of one value."""

    value: float
    reach: float


def mean_of(values: Any) -> Mean:
    """Return the mean of independent values, shape (n,), by Student's t."""
    n = len(values)
    if n < 2:
        return Mean(float(np.mean(values)), float("nan"))
    reach = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / n**0.5
    return Mean(float(np.mean(values)), reach)
