"""Choosing without near-duplicates: whatever the method, no two picks are more alike than allowed."""

from collections.abc import Callable

import numpy as np

from kshot.arrays import Bools, Float32s, Int64s, Picks


def select_distinct(
    select: Callable[[Int64s], Picks],
    cosines: Callable[[int], Float32s],
    n: int,
    threshold: float,
) -> Picks:
    """Run a method over fewer and fewer candidates until no two of its picks are near-duplicates.

    The picks are gone through in pick order. Where one nearly equals an earlier one, every candidate that
    nearly equals one of the picks before it is taken out, and the method runs again. What a greedy method
    picked before that place it picks again.

    Parameters
    ----------
    select : callable
        Takes the ascending indices of the candidates that are left and returns picks among them, as positions
        in what it was given.
    cosines : callable
        Takes an index and returns the cosine of every candidate to it, shape (n,).
    n : int
        Number of candidates.
    threshold : float
        In (0, 1]; two picks whose cosine reaches it are near-duplicates.

    Returns
    -------
    Picks
        ``indices`` among all n candidates; fewer than asked for if there are not enough that differ.
        Diagnostics say how many candidates were taken out: ``{"near_duplicates": 3}``.

    Notes
    -----
    At most one run per pick for greedy methods; each run takes out at least one candidate, so every method
    comes to an end.
    """
    left: Bools = np.ones(n, np.bool_)
    while True:
        indices = np.flatnonzero(left)
        picks = select(indices)
        chosen = indices[picks.indices]
        alike = _alike_to_a_prefix(chosen, cosines, threshold)
        if alike is None:
            out = n - len(indices)
            diagnostics = {**picks.diagnostics, "near_duplicates": out} if out else picks.diagnostics
            return Picks(chosen, picks.gains, picks.scores, diagnostics)
        left &= ~alike


def _alike_to_a_prefix(chosen: Int64s, cosines: Callable[[int], Float32s], threshold: float) -> Bools | None:
    """Tell which candidates nearly equal a pick that stands before the first repetition; None without one."""
    alike: Bools | None = None
    for place, index in enumerate(chosen.tolist()):
        if alike is not None and alike[index]:
            alike[chosen[:place]] = False
            return alike
        near = cosines(index) >= threshold
        alike = near if alike is None else alike | near
    return None
