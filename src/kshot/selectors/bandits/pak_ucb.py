"""PAK-UCB: the arm that may be the best, by a kernel model of each."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from kshot.arrays import require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.base import ArmPrior, Choice, Situation
from kshot.selectors.bandits.grid import natural
from kshot.selectors.bandits.kernel_points import PointsState
from kshot.selectors.bandits.kernel_ridge import KernelModel, KernelRidge
from kshot.selectors.bandits.kernels import Kernel
from kshot.selectors.bandits.picking import after_penalties, certainly_best
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.bandits.ridge import prior_key
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("pak_ucb")
@dataclass(frozen=True, slots=True)
class PakUcb:
    """Serve the arm with the largest expected reward plus ``eta`` times its width, by a kernel model of each.

    One kernel ridge regression per arm, see `kshot.selectors.bandits.kernel_ridge`: rewards may bend with
    the context in any way that the kernel can follow, and differently for every arm. With the linear kernel
    it decides as LinUCB does.

    A state holds the outcomes themselves, ``points`` per arm; the oldest are merged into the nearest that
    stay. Beyond that number it depends on the order of outcomes. A decision costs O(points^2) for every arm:
    `rff_ucb` comes near it at a cost that does not grow, and is to be preferred for many outcomes.

    Only one arm has a probability above 0: without a floor, what was logged cannot judge other policies.

    Notes
    -----
    Differs from [1]_ in that arms without outcomes have their prior and its width, instead of being served
    first, and in a constant ``eta``, as the theory's is far too wide for rewards within 0 and 1.

    References
    ----------
    .. [1] Hu, Leung, Farnia (2025), "PAK-UCB contextual bandit: an online learning approach to prompt-aware
       selection of generative models and LLMs", ICML.
    """

    contextual: ClassVar[bool] = True

    eta: float = parameter(0.5, description="Widths that are added to an expected reward.", ge=0)
    kernel: Literal["gaussian", "polynomial", "linear"] = parameter(
        "gaussian", description="How alike two contexts are."
    )
    width: float = parameter(
        1.0, description="Of the Gaussian kernel: distance over which rewards are alike.", gt=0
    )
    gain: float = parameter(1.0, description="Of the polynomial kernel: factor of the product.", gt=0)
    offset: float = parameter(1.0, description="Of the polynomial kernel: added to the product.", ge=0)
    degree: int = parameter(3, description="Of the polynomial kernel: its power.", ge=1, le=8)
    ridge: float = parameter(1.0, description="Ridge penalty of the models, in outcomes.", gt=0)
    points: int = parameter(2_000, description="Outcomes kept per arm before the oldest are merged.", ge=1)
    prior_reward: float = parameter(
        0.5, description="Expected reward of an arm before any outcome.", ge=0, le=1
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def init(self, dimension: int) -> PointsState:
        """Return the state before any outcome.

        Raises
        ------
        InvalidParameter
            Contexts have no feature, not even the intercept.
        """
        if dimension < 1:
            raise InvalidParameter(f"contexts have {dimension} features, allowed >= 1")
        return PointsState(dimension)

    def fold(self, state: PointsState, addends: Addends) -> PointsState:
        """Return the state after some outcomes."""
        return state.fold(addends, self.points)

    def merge(self, state: PointsState, other: PointsState) -> PointsState:
        """Return the state that has seen the outcomes of both."""
        return state.merge(other, self.points)

    def restore(self, blob: bytes) -> PointsState:
        """Return the state that ``to_bytes`` gave."""
        return PointsState.from_bytes(blob)

    def choose(self, state: PointsState, situation: Situation) -> Choice:
        """Return probability 1 for one arm; ties go to the arm that sorts first."""
        z = situation.context
        require_shape("context", z, (state.dimension,))
        kernel = Kernel(self.kernel, self.width, self.gain, self.offset, self.degree)
        means, widths = np.empty(len(situation.arms)), np.empty(len(situation.arms))
        for place, arm in enumerate(situation.arms):
            ridge = KernelRidge(kernel, self.ridge, situation.priors.get(arm, ArmPrior(self.prior_reward)))
            pending = situation.pending.get(arm)
            awaited = None if pending is None else natural(pending)
            means[place], widths[place] = ridge.estimate(_model(state, arm, ridge), z, awaited)
        values = after_penalties(means + self.eta * widths, situation)
        return Choice(certainly_best(values), means, widths)


def _model(state: PointsState, arm: str, ridge: KernelRidge) -> KernelModel:
    record = state.arms.get(arm)
    if record is None:
        return ridge.model({}, state.dimension, None)
    key: Hashable = (ridge.kernel, ridge.ridge, prior_key(ridge.prior))

    def built() -> KernelModel:
        # Once used it is of no use any more, and large.
        return ridge.model(record.by_context(), state.dimension, record.earlier.pop(key, None))

    return record.memo.get(key, built)
