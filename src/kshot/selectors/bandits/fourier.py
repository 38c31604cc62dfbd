"""Random Fourier features: linear models that bend, whose states still merge.

Features ``[cos(W z); sin(W z)] / sqrt(D / 2)`` with normal W have length 1, and their products come near the
Gaussian kernel ``exp(-|x - y|^2 / (2 width^2))``, the nearer the larger D. What is learnt are sums over them,
so that everything said of sums in `kshot.selectors.bandits.sums` holds. A constant 1 comes last, which no
model is given a coefficient for: its column of the gram matrix is what a prior's mean is taken off with.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from kshot.arrays import Float64s, Int64s
from kshot.errors import InvalidInput, InvalidParameter, StateCorrupt
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.additive import ArmsState, initial, merged, restored
from kshot.selectors.bandits.base import ArmPrior, Situation
from kshot.selectors.bandits.grid import FEATURE_BITS, grid_features, intercept_alone, natural
from kshot.selectors.bandits.ridge import (
    Estimates,
    RidgeModel,
    narrowed_width,
    prior_key,
    prior_theta,
    solved_model,
)
from kshot.selectors.bandits.views import ArmView

_REACH_BITS = 24
"""Frequencies are whole numbers below 2**24, so that their products with contexts sum exactly."""
_TURN = 2.0 * np.pi


def require_pairs(components: int) -> None:
    """Refuse an odd number of components, as every frequency has a cosine and a sine.

    Raises
    ------
    InvalidParameter
        It is odd.
    """
    if components % 2:
        raise InvalidParameter(f"components is {components}, allowed even numbers")


class FourierMap(NamedTuple):
    """A fixed map from contexts to features.

    Attributes
    ----------
    frequencies : float64 array, shape (D / 2, d)
        Whole numbers, in units of ``2 ** -bits``.
    bits : int
    origin : int64 array, shape (1, D + 1)
        Features of the context that is 0 but for its intercept.
    """

    frequencies: Float64s
    bits: int
    origin: Int64s

    def features(self, contexts: Int64s) -> Int64s:
        """Return features on the grid, a constant 1 last, shape (m, D + 1), of contexts in 2**-16.

        The same for a context whatever others come with it: angles are exact sums of whole numbers, brought
        within a half turn before their sines are taken.
        """
        return _features(contexts, self.frequencies, self.bits)


@lru_cache(maxsize=32)
def fourier_map(dimension: int, components: int, width: float, seed: int) -> FourierMap:
    """Return the map of a seed.

    Parameters
    ----------
    dimension : int
        Features of a context, d.
    components : int
        D, even and at least 2.
    width : float
        Of the kernel, above 0.
    seed : int
        At least 0.

    Notes
    -----
    Frequencies are drawn normal with standard deviation ``1 / width`` and rounded to 24 bits.
    """
    drawn = np.random.default_rng(seed).standard_normal((components // 2, dimension)) / width
    bits = _REACH_BITS - int(np.frexp(np.abs(drawn).max(initial=1e-300))[1])
    frequencies = np.rint(np.ldexp(drawn, bits))
    frequencies.setflags(write=False)
    return FourierMap(frequencies, bits, _features(intercept_alone(dimension)[None], frequencies, bits))


class _Parameters(Protocol):
    @property
    def components(self) -> int: ...
    @property
    def width(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def ridge(self) -> float: ...
    @property
    def prior_reward(self) -> float: ...
    @property
    def half_life_s(self) -> float | None: ...


class FourierPolicy:
    """The half of a policy on Fourier features that learns and estimates; a policy adds ``choose``."""

    __slots__ = ()

    def init(self: _Parameters, dimension: int) -> ArmsState:
        """Return the state before any outcome.

        Raises
        ------
        InvalidParameter
            Contexts have no feature, not even the intercept.
        """
        if dimension < 1:
            raise InvalidParameter(f"contexts have {dimension} features, allowed >= 1")
        return initial(self.components + 1, self.half_life_s, _named(self, dimension))

    def fold(self: _Parameters, state: ArmsState, addends: Addends) -> ArmsState:
        """Return the state after some outcomes."""
        given = addends.contexts
        return state.fold(replace(addends, contexts=_map_of(self, state, given.shape[1]).features(given)))

    def merge(self, state: ArmsState, other: ArmsState) -> ArmsState:
        """Return the state that has seen the outcomes of both.

        Raises
        ------
        InvalidInput
            The two belong to other contexts, seeds, widths or numbers of components.
        """
        return merged(state, other)

    def restore(self: _Parameters, blob: bytes) -> ArmsState:
        """Return the state that ``to_bytes`` gave."""
        state = restored(blob, self.half_life_s)
        wanted, _, _ = _named(self, 0).rpartition(" ")
        found, _, _ = state.features.rpartition(" ")
        if found != wanted:
            raise StateCorrupt(f"the saved state is of {found or state.features}, wanted {wanted}")
        return state

    def estimates(self: _Parameters, state: ArmsState, situation: Situation) -> Estimates:
        """Return what the arms of a situation are expected to earn, and the widths of that.

        Raises
        ------
        InvalidInput
            The context has another number of features than those that were learnt from.
        """
        return _estimates(self, state, situation)


def lifted_model(
    view: ArmView | None, origin: Float64s, ridge: float, prior: ArmPrior
) -> tuple[Float64s, RidgeModel]:
    """Return an arm's prior coefficients, shape (D + 1,), and its model of what differs from them.

    Parameters
    ----------
    view : ArmView or None
        Sums over features with the constant last; None before any outcome.
    origin : float64 array, shape (D + 1,)
        Features of the context that is 0 but for its intercept: where a prior's outcomes are thought to be.
    ridge : float
    prior : ArmPrior
        ``theta``, if there is one, has D + 1 coefficients.
    """
    size = len(origin)
    theta0 = prior_theta(prior, size)
    held, target = ridge * np.eye(size - 1), np.zeros(size - 1)
    if prior.events:
        at, missed = origin[:-1], prior.reward - float(origin @ theta0)
        held += prior.events * np.outer(at, at)
        target += prior.events * missed * at
    if view is None:
        return theta0, solved_model(held, target, None)
    spread = None if view.squared_gram is None else held + view.squared_gram[:-1, :-1]
    learnt = (view.moment - view.gram @ theta0)[:-1]
    try:
        return theta0, solved_model(held + view.gram[:-1, :-1], target + learnt, spread)
    except np.linalg.LinAlgError:
        # Outcomes were taken back before they came: until they come, as if there were none.
        return theta0, solved_model(held, target, None)


def _features(contexts: Int64s, frequencies: Float64s, bits: int) -> Int64s:
    angles = np.ldexp(contexts.astype(np.float64) @ frequencies.T, -FEATURE_BITS - bits)
    angles -= _TURN * np.rint(angles / _TURN)
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(len(frequencies))
    found = np.full((len(contexts), waves.shape[1] + 1), 1 << FEATURE_BITS, np.int64)
    found[:, :-1] = np.rint(np.ldexp(waves, FEATURE_BITS))
    return found


def _named(parameters: _Parameters, dimension: int) -> str:
    return (
        f"{parameters.components} Fourier components of width {parameters.width!r} and seed "
        f"{parameters.seed}, contexts {dimension}"
    )


def _map_of(parameters: _Parameters, state: ArmsState, dimension: int) -> FourierMap:
    name = _named(parameters, dimension)
    if state.features != name:
        raise InvalidInput(f"the state has learnt from {state.features}; given are {name}")
    return fourier_map(dimension, parameters.components, parameters.width, parameters.seed)


def _estimates(parameters: _Parameters, state: ArmsState, situation: Situation) -> Estimates:
    d = len(situation.context)
    lift = _map_of(parameters, state, d)
    z = natural(lift.features(grid_features(situation.context)[None]))[0]
    own = ArmPrior(parameters.prior_reward)
    clock = state.clock(situation.now)
    priors = [situation.priors.get(arm, own) for arm in situation.arms]
    key = ("fourier", situation.arms, clock, parameters.ridge, tuple(map(prior_key, priors)))

    def stacked() -> _Stack:
        origin = natural(lift.origin)[0]
        models = [
            _model_of(state, arm, clock, parameters.ridge, prior, origin)
            for arm, prior in zip(situation.arms, priors, strict=True)
        ]
        return _Stack(
            [model for _, model in models],
            np.stack([theta0 for theta0, _ in models]),
            np.stack([model.theta for _, model in models]),
            np.stack([model.root for _, model in models]),
        )

    models, theta0s, thetas, roots = state.memo.get(key, stacked)
    means = np.einsum("kd,d->k", theta0s, z) + np.einsum("kd,d->k", thetas, z[:-1])
    rooted = np.einsum("kij,j->ki", roots, z[:-1])
    widths = np.sqrt(np.einsum("ki,ki->k", rooted, rooted))
    for arm, pending in situation.pending.items():
        if arm in situation.arms and len(pending):
            place = situation.arms.index(arm)
            awaited = natural(lift.features(np.asarray(pending, np.int64)))[:, :-1]
            widths[place] = narrowed_width(models[place], z[:-1], awaited)
    return Estimates(means, widths)


class _Stack(NamedTuple):
    models: list[RidgeModel]
    theta0s: Float64s
    thetas: Float64s
    roots: Float64s


def _model_of(
    state: ArmsState, arm: str, clock: float, ridge: float, prior: ArmPrior, origin: Float64s
) -> tuple[Float64s, RidgeModel]:
    record = state.arms.get(arm)

    def fitted() -> tuple[Float64s, RidgeModel]:
        return lifted_model(state.view(arm, clock), origin, ridge, prior)

    if record is None:
        return fitted()
    return record.memo.get(("fourier", clock, ridge, prior_key(prior)), fitted)
