"""Proof that a greedy coverage over some rows is the greedy coverage over all of them."""

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, Floats, Picks, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.summation import row_sums


def certified_steps(
    partial_scores: ArrayLike, picks: Picks, outside: ArrayLike, *, add_cand_score: float | None = None
) -> Bools:
    """Tell which picks of `coverage_greedy` more rows than it was given could not have changed.

    No row left out reaches more than ``outside`` at any part of the query, so none adds more to a coverage
    ``c`` than ``sum_i max(0, outside_i - c_i)``. A pick that adds more than that is the pick of the greedy
    over all rows.

    Parameters
    ----------
    partial_scores : float32 or float64 array, shape (n, L)
        The scores that the picks were made from.
    picks : Picks
        As `coverage_greedy` returned them, with its diagnostics.
    outside : array, shape (L,)
        For each part of the query, an upper bound on the score of every row left out, exact to the last bit.
        An estimate proves nothing. ``-inf`` where no row is left out.
    add_cand_score : float, optional
        As given to `coverage_greedy`.

    Returns
    -------
    bool array, shape (k,)
        True for a pick that is proven, together with all before it: once one is open, so is what it leaves to
        cover. Equal gains are never proven, as ties go to the lowest index, which may be left out.

    Raises
    ------
    InvalidShape
        Shapes disagree, or ``outside`` holds NaN.
    InvalidParameter
        The picks come without the rounds that `coverage_greedy` reports, or ``add_cand_score`` is not above
        0.

    Notes
    -----
    O(k L). Totals are compared, not gains, and both sides are summed in the same order: rounding then moves
    neither past the other. A new round is proven if no row left out could have gone on with the old one.

    References
    ----------
    .. [1] Nemhauser, Wolsey, Fisher (1978), "An analysis of approximations for maximizing submodular set
       functions", Mathematical Programming 14: the bound on what any further row adds.

    Examples
    --------
    >>> from kshot.selectors import coverage_greedy
    >>> scores = [[0.9, 0.1], [0.1, 0.5]]
    >>> picks = coverage_greedy(scores, k=2)
    >>> certified_steps(scores, picks, outside=[0.4, 0.3]).tolist()
    [True, True]
    >>> certified_steps(scores, picks, outside=[0.4, 0.5]).tolist()
    [True, False]
    """
    scores: Floats = np.asarray(partial_scores)
    require_shape("partial_scores", scores, (None, None))
    bound: Float64s = np.asarray(outside, dtype=np.float64)
    require_shape("outside", bound, (scores.shape[1],))
    if np.isnan(bound).any():
        raise InvalidShape(f"outside holds NaN at {int(np.isnan(bound).argmax())}; NaN bounds nothing")
    if add_cand_score is not None and not add_cand_score > 0:
        raise InvalidParameter(f"add_cand_score is {add_cand_score}, allowed > 0 or None")
    rounds = picks.diagnostics.get("rounds")
    if rounds is None or len(rounds) != len(picks):
        raise InvalidParameter(f"picks have the rounds {rounds}, allowed one for each of {len(picks)} picks")

    proven = np.zeros(len(picks), dtype=np.bool_)
    covered: Floats | None = None
    for step, row in enumerate(picks.indices.tolist()):
        if covered is not None and rounds[step] != rounds[step - 1]:
            if (bound > covered).any():
                break
            covered = None
        # Both in one matrix, so that both are summed alike.
        both = np.stack([scores[row], bound])
        totals = row_sums(both, covered)
        if add_cand_score is not None:
            totals += row_sums(both) / add_cand_score
        if not totals[0] > totals[1]:
            break
        proven[step] = True
        covered = both[0] if covered is None else np.maximum(covered, both[0])
    return proven
