"""What a policy that learns on the way would have earned, by replay of the uniform hold-out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Bools, require_shape
from kshot.errors import InsufficientSupport, InvalidParameter
from kshot.selectors.bandits.addends import outcomes
from kshot.selectors.bandits.base import Policy, Situation
from kshot.selectors.bandits.off_policy.decision_log import DecisionLog
from kshot.selectors.bandits.off_policy.estimators import ips
from kshot.selectors.bandits.off_policy.intervals import RESAMPLES, Interval, bootstrap_interval
from kshot.selectors.bandits.off_policy.support import LEAST_EFFECTIVE

_UNIFORM = 1e-9


@dataclass(frozen=True, slots=True)
class Replay:
    """What a learning policy earned in the replay.

    Attributes
    ----------
    value : float
        Mean reward of the decisions that were accepted.
    interval : Interval
        95 %, from resampled sessions; the luck in what was learnt is outside of it.
    accepted : bool array, shape (n,)
        Where the policy drew the arm that had been served.
    """

    value: float
    interval: Interval
    accepted: Bools


def replay(
    policy: Policy[Any],
    log: DecisionLog,
    arms: Sequence[str],
    rng: np.random.Generator,
    *,
    eligible: Bools | None = None,
    resamples: int = RESAMPLES,
) -> Replay:
    """Run a policy from nothing over decisions whose arms were drawn uniformly.

    In the order of time, the policy draws an arm; if it is the one that was served, the policy learns the
    reward at once, and if not, the decision is dropped. What it then sees is distributed as if it had
    decided itself [1]_, with about n / K decisions.

    Parameters
    ----------
    policy : Policy
    log : DecisionLog
        The hold-out alone: arms uniform over those eligible.
    arms : sequence of str, length K
        Names of arms 0 to K - 1, sorted.
    rng : numpy.random.Generator
    eligible : bool array, shape (n, K), optional
        Which arms could be served; all by default.
    resamples : int

    Raises
    ------
    InvalidParameter
        The names are not sorted and distinct, or a propensity is not 1 over the number of eligible arms.
    InsufficientSupport
        Fewer than 50 decisions are accepted.

    References
    ----------
    .. [1] Li, Chu, Langford, Wang (2011), "Unbiased offline evaluation of contextual-bandit-based news
       article recommendation algorithms", WSDM.
    """
    n, K = len(log), len(arms)
    if list(arms) != sorted(set(arms)):
        raise InvalidParameter(f"arms are {', '.join(arms)}, allowed sorted and distinct")
    allowed = np.ones((n, K), np.bool_) if eligible is None else eligible
    require_shape("eligible", allowed, (n, K))
    _require_uniform(log, allowed)
    state = policy.init(log.contexts.shape[1])
    accepted = np.zeros(n, np.bool_)
    for row in np.argsort(log.times, kind="stable").tolist():
        places = np.flatnonzero(allowed[row])
        now = float(log.times[row])
        situation = Situation(tuple(arms[place] for place in places.tolist()), log.contexts[row], now=now)
        probabilities = policy.choose(state, situation).probabilities
        drawn = int(rng.choice(places, p=probabilities / probabilities.sum()))
        if drawn == log.arms[row]:
            accepted[row] = True
            learnt = outcomes(
                [arms[drawn]],
                log.contexts[row : row + 1],
                log.rewards[row : row + 1],
                times=log.times[row : row + 1],
                decisions=[str(row)],
            )
            state = policy.fold(state, learnt)
    taken = log.take(accepted)
    if len(taken) < LEAST_EFFECTIVE:
        raise InsufficientSupport(
            f"{len(taken)} of {n} decisions are accepted by the replay, wanted at least {LEAST_EFFECTIVE:g}"
        )
    terms = ips(np.ones(len(taken)), taken.rewards)
    return Replay(
        terms.value(), bootstrap_interval(terms, taken.sessions, rng, resamples=resamples), accepted
    )


def _require_uniform(log: DecisionLog, allowed: Bools) -> None:
    if not len(log):
        return
    if log.arms.max() >= allowed.shape[1] or not allowed[np.arange(len(log)), log.arms].all():
        raise InvalidParameter("an arm was served that was not eligible")
    wrong = ~(np.abs(log.propensities * allowed.sum(axis=1) - 1.0) <= _UNIFORM)
    if wrong.any():
        raise InvalidParameter(
            f"propensity is {log.propensities[wrong][0]:g}, allowed 1 over the number of eligible arms: "
            "replay is without bias on the uniform hold-out only"
        )
