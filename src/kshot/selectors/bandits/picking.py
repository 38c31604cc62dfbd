"""From what arms are worth to the probabilities of serving them."""

import numpy as np

from kshot.arrays import Float64s
from kshot.selectors.bandits.base import Situation


def after_penalties(values: Float64s, situation: Situation) -> Float64s:
    """Return each arm's value less its penalty, shape (K,)."""
    return values if situation.penalties is None else values - situation.penalties


def certainly_best(values: Float64s) -> Float64s:
    """Return probability 1 for the arm of the largest value, the first of several; shape (K,)."""
    probabilities = np.zeros(len(values))
    probabilities[int(np.argmax(values))] = 1.0
    return probabilities
