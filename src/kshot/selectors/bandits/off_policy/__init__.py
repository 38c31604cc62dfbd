"""What another policy would have earned, from decisions that were logged with their propensities."""

from kshot.selectors.bandits.off_policy.decision_log import DecisionLog
from kshot.selectors.bandits.off_policy.evaluation import Estimate, Evaluation, evaluate
from kshot.selectors.bandits.off_policy.intervals import Interval
from kshot.selectors.bandits.off_policy.replay import Replay, replay
from kshot.selectors.bandits.off_policy.support import Support

__all__ = [
    "DecisionLog",
    "Estimate",
    "Evaluation",
    "Interval",
    "Replay",
    "Support",
    "evaluate",
    "replay",
]
