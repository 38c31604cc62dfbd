"""Which variant to serve, learnt from outcomes: pure policies, one per file, and off-policy estimates."""

from kshot.selectors.bandits.addends import Addends, joined, outcomes
from kshot.selectors.bandits.base import (
    ArmPrior,
    ArmSummary,
    Choice,
    Policy,
    PolicyState,
    PropensityKind,
    Situation,
)
from kshot.selectors.bandits.grid import snapped
from kshot.selectors.bandits.registry import POLICIES

__all__ = [
    "POLICIES",
    "Addends",
    "ArmPrior",
    "ArmSummary",
    "Choice",
    "Policy",
    "PolicyState",
    "PropensityKind",
    "Situation",
    "joined",
    "outcomes",
    "snapped",
]
