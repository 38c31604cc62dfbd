"""Where policies are found by name."""

from typing import Any

from kshot.selectors.bandits.base import Policy
from kshot.selectors.registry import Registry

POLICIES: Registry[Policy[Any]] = Registry("kshot.selectors.bandits", group="kshot.policies")
"""Every policy, by the name that a policy's ``algorithm`` uses."""
