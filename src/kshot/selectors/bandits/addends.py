"""What is folded into a policy's state: outcomes of decisions, and changes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float64s, Int64s, require_finite, require_shape
from kshot.selectors.bandits.grid import grid_features, grid_rewards, grid_weights


@dataclass(frozen=True, slots=True)
class Addends:
    """m changes of what is known, each of the outcome of one decision; a state is the sum of them.

    Whole numbers throughout, in the units of `kshot.selectors.bandits.grid`.

    Attributes
    ----------
    arms : tuple of str, length m
        The arms that were served.
    decisions : tuple of str, length m
        Of which decision; one decision may have several addends.
    contexts : int64 array, shape (m, d)
        The features that the decision was made on, in 2**-16.
    times : float64 array, shape (m,)
        When the decisions were made, in seconds.
    counts : int64 array, shape (m,)
        1 for a new outcome, -1 for one that is taken back, 0 for one that is corrected.
    weights : int64 array, shape (m,)
        Change of the sum of weights, in 2**-10.
    rewards : int64 array, shape (m,)
        Change of the sum of weight times reward, in 2**-26.
    squares : int64 array, shape (m,)
        Change of the sum of weight times squared reward, in 2**-42.
    """

    arms: tuple[str, ...]
    decisions: tuple[str, ...]
    contexts: Int64s
    times: Float64s
    counts: Int64s
    weights: Int64s
    rewards: Int64s
    squares: Int64s

    def __post_init__(self) -> None:
        m = len(self.arms)
        require_shape("contexts", self.contexts, (m, None))
        for name in ("times", "counts", "weights", "rewards", "squares"):
            require_shape(name, getattr(self, name), (m,))
        require_shape("decisions", np.empty(len(self.decisions)), (m,))
        require_finite("times", self.times)

    def __len__(self) -> int:
        return len(self.arms)

    def __neg__(self) -> "Addends":
        """Return what takes these back."""
        return Addends(
            self.arms,
            self.decisions,
            self.contexts,
            self.times,
            -self.counts,
            -self.weights,
            -self.rewards,
            -self.squares,
        )

    def take(self, rows: Sequence[int] | Int64s) -> "Addends":
        """Return some of them, in the order given."""
        at = np.asarray(rows, np.int64)
        return Addends(
            tuple(self.arms[row] for row in at),
            tuple(self.decisions[row] for row in at),
            self.contexts[at],
            self.times[at],
            self.counts[at],
            self.weights[at],
            self.rewards[at],
            self.squares[at],
        )


def outcomes(
    arms: Sequence[str],
    contexts: NDArray[Any],
    rewards: NDArray[Any],
    *,
    weights: NDArray[Any] | None = None,
    times: NDArray[Any] | None = None,
    decisions: Sequence[str] | None = None,
) -> Addends:
    """Return the addends of m new outcomes.

    Parameters
    ----------
    arms : sequence of str, length m
    contexts : array, shape (m, d)
        Features within -8 to 8; rounded to the grid. ``d`` is 0 for policies without context.
    rewards : array, shape (m,)
        Within 0 to 1.
    weights : array, shape (m,), optional
        Within 0 to 8; 1 by default.
    times : array, shape (m,), optional
        When the decisions were made, in seconds; 0 by default.
    decisions : sequence of str, length m, optional
        ``"0"`` to ``"m - 1"`` by default.

    Raises
    ------
    InvalidParameter
        A value is outside its range, or not finite.
    InvalidShape
        The lengths differ.
    """
    m = len(arms)
    features = grid_features(np.asarray(contexts, np.float64))
    reward = grid_rewards(rewards)
    weight = grid_weights(np.ones(m) if weights is None else weights)
    require_shape("rewards", reward, (m,))
    require_shape("weights", weight, (m,))
    return Addends(
        arms=tuple(arms),
        decisions=tuple(map(str, range(m))) if decisions is None else tuple(decisions),
        contexts=features,
        times=np.zeros(m) if times is None else np.asarray(times, np.float64),
        counts=np.ones(m, np.int64),
        weights=weight,
        rewards=weight * reward,
        squares=weight * reward * reward,
    )


def joined(parts: Sequence[Addends]) -> Addends:
    """Return addends one after another; at least one part."""
    return Addends(
        arms=tuple(arm for part in parts for arm in part.arms),
        decisions=tuple(one for part in parts for one in part.decisions),
        contexts=np.concatenate([part.contexts for part in parts]),
        times=np.concatenate([part.times for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        squares=np.concatenate([part.squares for part in parts]),
    )
