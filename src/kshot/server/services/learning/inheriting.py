"""What an edit of a variant starts with: near what its parent had learnt, at a strength of its own."""

from typing import Any

from kshot.selectors.bandits import ArmPrior
from kshot.selectors.bandits.decaying import DecayingState
from kshot.selectors.bandits.ridge import ridge_model
from kshot.selectors.bandits.sums import SumsState
from kshot.server.services.learning.learner import Learnt


def inherited(learnt: Learnt, parent: str) -> dict[str, Any]:
    """Return what is known of a variant, for another one to start from.

    Parameters
    ----------
    learnt : Learnt
    parent : str

    Returns
    -------
    dict
        ``policy_version``, the mean ``reward``, and where the algorithm is linear its coefficients ``theta``:
        the ridge penalty pulls to those, so that the certainty of the parent's outcomes is not inherited.
    """
    definition, state = learnt.definition, learnt.state
    policy: Any = definition.policy
    summary = state.summaries().get(parent)
    believed = definition.variants[parent].prior or ArmPrior(getattr(policy, "prior_reward", 0.5))
    found: dict[str, Any] = {
        "policy_version": definition.record.version,
        "reward": believed.reward if summary is None or summary.mean is None else summary.mean,
    }
    ridge = getattr(policy, "ridge", None)
    if ridge is not None and isinstance(state, SumsState | DecayingState) and state.dimension:
        view = state.view(parent, state.clock(0.0))
        found["theta"] = ridge_model(view, state.dimension, ridge, believed).theta.tolist()
    return found
