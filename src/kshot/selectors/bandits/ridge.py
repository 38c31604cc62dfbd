"""Ridge regression per arm, read from sums: expected rewards, and how uncertain they are.

For an arm with the sums ``S = sum w z z^T`` and ``b = sum w r z`` of its outcomes, and a prior::

    A = ridge I + s e e^T + S        c = ridge theta0 + s m e + b        theta = A^-1 c

where m is the reward that the prior expects, s how many outcomes that is worth, e the intercept's unit
vector, and ``theta0`` the prior's coefficients: ``m e`` unless it has others. For a context z, the expected
reward is ``z^T theta`` and its width ``sqrt(z^T A^-1 z)``. Where outcomes are forgotten, S and b are
discounted, the prior is not, and the width is ``sqrt(z^T A^-1 B A^-1 z)`` with
``B = ridge I + s e e^T + sum w g^2 z z^T``.

Nothing of the prior is in the sums, so that another prior needs no replay, and sums merge by addition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dtrtri

from kshot.arrays import Float64s, require_shape
from kshot.selectors.bandits.base import ArmPrior, Situation
from kshot.selectors.bandits.grid import natural
from kshot.selectors.bandits.views import ArmView, Latest, LearntState


class Estimates(NamedTuple):
    """Expected rewards and their widths, in the order of a situation's arms."""

    means: Float64s
    widths: Float64s


@dataclass(frozen=True, slots=True)
class RidgeModel:
    """The ridge regression of one arm.

    Attributes
    ----------
    theta : float64 array, shape (d,)
    root : float64 array, shape (d, d)
        A context's width is the length of ``root @ z``.
    precision : float64 array, shape (d, d), or None
        ``A``, where outcomes are forgotten.
    spread : float64 array, shape (d, d), or None
        ``B``, where outcomes are forgotten; ``root`` is then no root of ``A^-1``.
    narrowed : Latest
        The root for the outcomes that were awaited last.
    """

    theta: Float64s
    root: Float64s
    precision: Float64s | None = None
    spread: Float64s | None = None
    narrowed: Latest[Float64s] = field(default_factory=Latest)


class _Stack(NamedTuple):
    models: Sequence[RidgeModel]
    thetas: Float64s
    roots: Float64s


def ridge_model(view: ArmView | None, dimension: int, ridge: float, prior: ArmPrior) -> RidgeModel:
    """Return the ridge regression of an arm.

    Parameters
    ----------
    view : ArmView or None
        None before any outcome.
    dimension : int
        Features of a context, at least 1; the last is the intercept.
    ridge : float
        Above 0: the penalty on squared coefficients, in outcomes.
    prior : ArmPrior

    Raises
    ------
    InvalidShape
        The prior's coefficients have another number than the contexts' features.

    Notes
    -----
    O(d^3). Sums of outcomes that were taken back before they came may leave no positive definite matrix;
    until they come, the arm counts as one without outcomes.
    """
    held = np.full(dimension, ridge)
    held[-1] += prior.events
    target = ridge * prior_theta(prior, dimension)
    target[-1] += prior.events * prior.reward
    if view is None:
        return RidgeModel(target / held, np.diag(1.0 / np.sqrt(held)))
    spread = None if view.squared_gram is None else np.diag(held) + view.squared_gram
    try:
        return solved_model(np.diag(held) + view.gram, target + view.moment, spread)
    except np.linalg.LinAlgError:
        return ridge_model(None, dimension, ridge, prior)


def solved_model(precision: Float64s, target: Float64s, spread: Float64s | None) -> RidgeModel:
    """Return the ridge regression of ``A``, ``c`` and, where outcomes are forgotten, ``B``.

    Raises
    ------
    numpy.linalg.LinAlgError
        ``A`` or ``B`` is not positive definite.
    """
    inverse = inverse_factor(precision)
    theta = inverse.T @ (inverse @ target)
    if spread is None:
        return RidgeModel(theta, inverse)
    root = np.linalg.cholesky(spread).T @ (inverse.T @ inverse)
    return RidgeModel(theta, root, precision, spread)


def inverse_factor(matrix: Float64s) -> Float64s:
    """Return the inverse of the lower Cholesky factor; its product with its transpose inverts the matrix.

    Raises
    ------
    numpy.linalg.LinAlgError
        The matrix is not positive definite.
    """
    inverse, _ = dtrtri(np.linalg.cholesky(matrix), lower=1)
    return np.ascontiguousarray(inverse)


def ridge_estimates(state: LearntState, situation: Situation, ridge: float, prior: ArmPrior) -> Estimates:
    """Return what the arms of a situation are expected to earn, and the widths of that.

    Parameters
    ----------
    state : LearntState
        Of as many features as the situation's context has.
    situation : Situation
        Its own priors come before ``prior``; its pending contexts narrow widths.
    ridge : float
        Above 0.
    prior : ArmPrior
        Of arms for which the situation has none.

    Raises
    ------
    InvalidShape
        The context has another number of features than the state.

    Notes
    -----
    O(K d^2) where the state has been asked before for the same arms and priors, O(d^3) more for every arm
    that has changed since. Arms of equal sums and priors have bitwise equal estimates.
    """
    z = situation.context
    require_shape("context", z, (state.dimension,))
    models, thetas, roots = _stack(state, situation, ridge, prior)
    means = np.einsum("kd,d->k", thetas, z)
    rooted = np.einsum("kij,j->ki", roots, z)
    widths = np.sqrt(np.einsum("ki,ki->k", rooted, rooted))
    for arm, pending in situation.pending.items():
        if arm in situation.arms and len(pending):
            place = situation.arms.index(arm)
            widths[place] = narrowed_width(models[place], z, natural(pending))
    return Estimates(means, widths)


def narrowed_width(model: RidgeModel, z: Float64s, pending: Float64s) -> float:
    """Return the width that is left once awaited outcomes have come, whatever they are.

    Parameters
    ----------
    model : RidgeModel
    z : float64 array, shape (d,)
    pending : float64 array, shape (m, d)
        Contexts of the outcomes that are awaited, P below.

    Notes
    -----
    ``sqrt(z^T (A + P^T P)^-1 z)``. The root of that matrix is found, O(m d^2 + d^3), and kept: O(m d + d^2)
    while the same outcomes are awaited, as for all arms but one from a decision to the next.
    """
    rooted = model.narrowed.get(pending, lambda: _narrowed_root(model, pending)) @ z
    return float(np.sqrt(rooted @ rooted))


def _narrowed_root(model: RidgeModel, pending: Float64s) -> Float64s:
    if model.precision is not None and model.spread is not None:
        told = pending.T @ pending
        inverse = inverse_factor(model.precision + told)
        return np.asarray(np.linalg.cholesky(model.spread + told).T @ (inverse.T @ inverse))
    Y = model.root @ pending.T
    return np.asarray(inverse_factor(np.eye(len(Y)) + Y @ Y.T) @ model.root)


def prior_theta(prior: ArmPrior, dimension: int) -> Float64s:
    """Return the coefficients that a ridge penalty pulls to, shape (dimension,).

    Raises
    ------
    InvalidShape
        The prior has another number of them.
    """
    if prior.theta is not None:
        require_shape("theta", prior.theta, (dimension,))
        return prior.theta
    theta = np.zeros(dimension)
    theta[-1] = prior.reward
    return theta


def prior_key(prior: ArmPrior) -> tuple[float, float, bytes | None]:
    """Return what tells priors apart."""
    return prior.reward, prior.events, None if prior.theta is None else prior.theta.tobytes()


def _stack(state: LearntState, situation: Situation, ridge: float, prior: ArmPrior) -> _Stack:
    arms, given = situation.arms, situation.priors
    clock = state.clock(situation.now)
    own = tuple((arm, prior_key(given[arm])) for arm in arms if arm in given) if given else ()
    key = ("ridge", arms, clock, ridge, prior_key(prior), own)
    return state.memo.get(key, lambda: _stacked(state, arms, clock, ridge, prior, given))


def _stacked(
    state: LearntState,
    arms: Sequence[str],
    clock: float,
    ridge: float,
    prior: ArmPrior,
    given: Mapping[str, ArmPrior],
) -> _Stack:
    models = [_model_of(state, arm, clock, ridge, given.get(arm, prior)) for arm in arms]
    thetas = np.stack([model.theta for model in models])
    return _Stack(models, thetas, np.stack([model.root for model in models]))


def _model_of(state: LearntState, arm: str, clock: float, ridge: float, prior: ArmPrior) -> RidgeModel:
    record = state.arms.get(arm)
    if record is None:
        return ridge_model(None, state.dimension, ridge, prior)

    def fitted() -> RidgeModel:
        return ridge_model(state.view(arm, clock), state.dimension, ridge, prior)

    return record.memo.get(("ridge", clock, ridge, prior_key(prior)), fitted)
