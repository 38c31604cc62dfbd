"""Where planners are found by name."""

from kshot.selectors.annotation.base import Planner
from kshot.selectors.registry import Registry

PLANNERS: Registry[Planner] = Registry("kshot.selectors.annotation", group="kshot.planners")
"""Every planner, by the name that a plan's ``method`` uses."""
