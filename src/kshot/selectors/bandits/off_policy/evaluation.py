"""What a fixed policy would have earned on logged decisions: every estimator, its intervals, its support."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Float64s, as_float64
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.off_policy.decision_log import DecisionLog
from kshot.selectors.bandits.off_policy.estimators import (
    Terms,
    clipped_doubly_robust,
    clipped_ips,
    default_limit,
    direct,
    doubly_robust,
    importance_weights,
    ips,
    self_normalised_doubly_robust,
    shrunken_doubly_robust,
    snips,
    switch,
)
from kshot.selectors.bandits.off_policy.intervals import (
    RESAMPLES,
    Interval,
    bernstein_interval,
    bootstrap_intervals,
)
from kshot.selectors.bandits.off_policy.reward_model import FOLDS, cross_fitted, time_folds
from kshot.selectors.bandits.off_policy.support import Support, require_support, support, unsupported_share

DEFAULT_ESTIMATOR = "clipped_dr"


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's answer.

    Attributes
    ----------
    value : float
        Expected reward of the target per decision.
    interval : Interval
        95 %, from resampled sessions. Bias is outside of it: the model's of ``dm``, the clipping's of others.
    bernstein : Interval or None
        95 %, empirical Bernstein; None for self-normalised estimators.
    """

    value: float
    interval: Interval
    bernstein: Interval | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known of a policy's reward.

    Attributes
    ----------
    estimates : mapping of str to Estimate
        ``ips``, ``clipped_ips``, ``snips``, ``dm``, ``dr``, ``clipped_dr``, ``sndr``, ``switch``, ``dros``.
    default : str
        The estimator to look at first.
    support : Support
    limit : float
        Where weights were clipped and switched.
    logged : float
        Mean reward of what was served.
    """

    estimates: Mapping[str, Estimate]
    default: str
    support: Support
    limit: float
    logged: float


def evaluate(
    log: DecisionLog,
    target: Float64s,
    rng: np.random.Generator,
    *,
    model: Float64s | None = None,
    limit: float | None = None,
    penalty: float = 1.0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Estimate the reward of a policy that does not change on the way.

    Parameters
    ----------
    log : DecisionLog
        Decisions without known propensity are left out, and counted.
    target : float64 array, shape (n, K)
        The policy's probabilities of every arm at every decision, floor and hold-out included where it would
        be served with them; 0 for arms that could not be served.
    rng : numpy.random.Generator
        For the resampling.
    model : float64 array, shape (n, K), optional
        Predicted rewards; by default a ridge regression per arm, fitted on the other two thirds of time.
    limit : float, optional
        Where weights are clipped; by default ten times the median of those above 0.
    penalty : float
        Of the ridge regression.
    resamples : int

    Raises
    ------
    InvalidShape
        The shapes differ.
    InvalidParameter
        A row of ``target`` does not sum to 1 within 1e-6, or a probability is outside [0, 1].
    InsufficientSupport
        No propensity is known, or fewer than 50 decisions are effective.

    Notes
    -----
    A policy that learns on the way is none of these: see `kshot.selectors.bandits.off_policy.replay`. Of the
    state of a policy, take one that has not seen the log, or estimates are too high.
    """
    pi = as_float64("target", target, (len(log), None))
    if len(log) and (
        pi.min() < 0 or np.abs(pi.sum(axis=1) - 1).max() > 1e-6 or log.arms.max() >= pi.shape[1]
    ):
        raise InvalidParameter(
            "target is no distribution over arms at every decision; allowed probabilities that sum to 1, "
            "for as many arms as were served"
        )
    kept = log.known
    used, pi = log.take(kept), np.minimum(pi[kept], 1.0)
    done = (np.arange(len(used)), used.arms)
    weights = importance_weights(pi[done], used.propensities)
    found = support(
        weights,
        used.sessions,
        unsupported=unsupported_share(pi, used.behaviour, used.arms),
        missing=len(log) - len(used),
    )
    require_support(found)
    if model is None:
        folds = time_folds(used.times, used.sessions, FOLDS)
        q = cross_fitted(used.contexts, used.arms, used.rewards, folds, pi.shape[1], penalty=penalty)
    else:
        q = as_float64("model", model, (len(log), pi.shape[1]))[kept]
    values, modelled = np.einsum("nk,nk->n", pi, q), q[done]
    clip = default_limit(weights) if limit is None else limit
    rewards = used.rewards
    name_to_terms: dict[str, Terms] = {
        "ips": ips(weights, rewards),
        "clipped_ips": clipped_ips(weights, rewards, clip),
        "snips": snips(weights, rewards),
        "dm": direct(values),
        "dr": doubly_robust(weights, rewards, modelled, values),
        "clipped_dr": clipped_doubly_robust(weights, rewards, modelled, values, clip),
        "sndr": self_normalised_doubly_robust(weights, rewards, modelled, values),
        "switch": switch(weights, rewards, modelled, values, clip),
        # Shrunken weights are then at most half of where others are clipped.
        "dros": shrunken_doubly_robust(weights, rewards, modelled, values, clip * clip),
    }
    intervals = bootstrap_intervals(list(name_to_terms.values()), used.sessions, rng, resamples=resamples)
    estimates = {
        name: Estimate(terms.value(), interval, bernstein_interval(terms, used.sessions))
        for (name, terms), interval in zip(name_to_terms.items(), intervals, strict=True)
    }
    return Evaluation(estimates, DEFAULT_ESTIMATOR, found, clip, float(rewards.mean()))
