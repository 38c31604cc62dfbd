"""One ridge regression for all arms, so that an arm begins with what arms like it have earned.

An arm with the vector g is described, in the context z, by ``phi = [z, z_c (x) g]``: the context, and the
products of some of its features ``z_c``, the first ones and the intercept, with every entry of g. As phi is
linear in z, ``phi = T z``, the sums over phi follow from the sums that are kept over z, arm by arm:
``T S T^T`` and ``T b``. Vectors may therefore change, or come later, without a replay.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from kshot.arrays import Float64s, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.base import ArmPrior, Situation
from kshot.selectors.bandits.grid import natural
from kshot.selectors.bandits.ridge import (
    Estimates,
    RidgeModel,
    narrowed_width,
    prior_key,
    solved_model,
)
from kshot.selectors.bandits.views import LearntState

LARGEST = 200
"""Coefficients that the joint model may have."""


class _Joint(NamedTuple):
    model: RidgeModel
    arm_to_map: Mapping[str, Float64s]
    unknown: Float64s


def hybrid_estimates(
    state: LearntState, situation: Situation, ridge: float, prior: ArmPrior, crossed: int
) -> Estimates:
    """Return what the arms of a situation are expected to earn by the joint model, and the widths of that.

    Parameters
    ----------
    state : LearntState
        Of as many features as the situation's context has.
    situation : Situation
        With the vectors of arms; an arm without one is judged by what all arms have in common. Arms that may
        not be served teach as well. Priors count as outcomes at the intercept; their coefficients do not.
    ridge : float
        Above 0.
    prior : ArmPrior
        ``reward`` is what the joint model's ridge penalty pulls to.
    crossed : int
        Features that are multiplied with vectors, at least 1; at most all.

    Raises
    ------
    InvalidShape
        The context has another number of features than the state, or vectors differ in length.
    InvalidParameter
        The model would have more than 200 coefficients.

    Notes
    -----
    With D coefficients, O(K D^2) where the state has been asked before with the same vectors and priors;
    where not, O(A D^2 d + D^3) more for the A arms with outcomes.
    """
    z = situation.context
    require_shape("context", z, (state.dimension,))
    vectors = {arm: as_float64("vectors", vector, (None,)) for arm, vector in situation.vectors.items()}
    clock = state.clock(situation.now)
    key = (
        "hybrid",
        clock,
        ridge,
        crossed,
        prior_key(prior),
        tuple((arm, vectors[arm].tobytes()) for arm in sorted(vectors)),
        tuple((arm, prior_key(situation.priors[arm])) for arm in sorted(situation.priors)),
    )
    model, arm_to_map, unknown = state.memo.get(
        key, lambda: _fitted(state, vectors, situation.priors, clock, ridge, prior, crossed)
    )
    described = np.stack([arm_to_map.get(arm, unknown) @ z for arm in situation.arms])
    means = np.einsum("kd,d->k", described, model.theta)
    awaited = [
        natural(pending) @ arm_to_map.get(arm, unknown).T
        for arm, pending in sorted(situation.pending.items())
        if len(pending)
    ]
    if awaited:
        pending = np.concatenate(awaited)
        widths = np.array([narrowed_width(model, phi, pending) for phi in described])
    else:
        rooted = np.matmul(model.root, described[:, :, None])[:, :, 0]
        widths = np.sqrt(np.einsum("ki,ki->k", rooted, rooted))
    return Estimates(means, widths)


def _fitted(
    state: LearntState,
    vectors: Mapping[str, Float64s],
    priors: Mapping[str, ArmPrior],
    clock: float,
    ridge: float,
    prior: ArmPrior,
    crossed: int,
) -> _Joint:
    d = state.dimension
    features = [*range(min(crossed, d) - 1), d - 1]
    length = len(next(iter(vectors.values()), np.empty(0)))
    total = d + len(features) * length
    if total > LARGEST:
        raise InvalidParameter(
            f"the joint model has {d} + {len(features)} * {length} = {total} coefficients, allowed {LARGEST}"
        )
    for vector in vectors.values():
        require_shape("vectors", vector, (length,))
    arm_to_map = {arm: _map(d, features, vector) for arm, vector in vectors.items()}
    unknown = _map(d, features, np.zeros(length))
    precision, spread = ridge * np.eye(total), ridge * np.eye(total)
    target = np.zeros(total)
    target[d - 1] = ridge * prior.reward
    for arm in sorted(priors):
        own, phi = priors[arm], arm_to_map.get(arm, unknown)[:, d - 1]
        precision += own.events * np.outer(phi, phi)
        spread += own.events * np.outer(phi, phi)
        target += own.events * own.reward * phi
    model = solved_model(precision, target, None)
    forgets = False
    for arm in sorted(state.arms):
        view, T = state.view(arm, clock), arm_to_map.get(arm, unknown)
        if view is not None:
            precision += T @ view.gram @ T.T
            target += T @ view.moment
            if view.squared_gram is not None:
                spread += T @ view.squared_gram @ T.T
                forgets = True
    # Without a positive definite matrix, outcomes were taken back before they came: none count until they do.
    with suppress(np.linalg.LinAlgError):
        model = solved_model(precision, target, spread if forgets else None)
    return _Joint(model, arm_to_map, unknown)


def _map(dimension: int, features: Sequence[int], vector: Float64s) -> Float64s:
    """Return the matrix T of ``[z, z_c (x) g]``."""
    products = np.zeros((len(features), len(vector), dimension))
    products[np.arange(len(features)), :, features] = vector
    return np.concatenate([np.eye(dimension), products.reshape(-1, dimension)])
