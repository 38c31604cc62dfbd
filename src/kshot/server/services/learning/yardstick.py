"""What the control earns, and what the policy does: whether the policy is worth having."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kshot.records import DecisionRecord
from kshot.selectors.bandits import PropensityKind
from kshot.selectors.bandits.grid import REWARD_BITS
from kshot.selectors.bandits.ledger import Outcome

_ONE = 1 << REWARD_BITS


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Exact sums over decisions that were drawn with the control among the arms.

    Of each decision two numbers are known, in units of 2**-16: what it earned, and what the control earned by
    it, which is its reward divided by the probability where the control was served, and 0 elsewhere. The mean
    of either is what the policy, or the control alone, earns.

    Attributes
    ----------
    control : str or None
        None: nothing is summed.
    n : int
        Decisions.
    policy, policy_squares, control_sum, control_squares : int
        Sums of the numbers and of their squares.
    """

    control: str | None
    n: int = 0
    policy: int = 0
    policy_squares: int = 0
    control_sum: int = 0
    control_squares: int = 0

    @classmethod
    def of(cls, control: str | None, numbers: Sequence[int] = ()) -> "Yardstick":
        """Return the yardstick that `numbers` was taken from, or a new one."""
        return cls(control, *numbers)

    def numbers(self) -> list[int]:
        """Return what there is to keep."""
        return [self.n, self.policy, self.policy_squares, self.control_sum, self.control_squares]

    def after(self, moves: Iterable[tuple[DecisionRecord, Outcome, Outcome]]) -> "Yardstick":
        """Return the yardstick after some changes of outcomes."""
        if self.control is None:
            return self
        sums = self.numbers()
        for record, before, after in moves:
            probability = _probability(record, self.control)
            if probability is None:
                continue
            for known, sign in ((before, -1), (after, 1)):
                # Another arm than the one drawn was served: no probability is known.
                if known.known and known.arm == record.chosen:
                    own = known.reward
                    by_control = round(own / probability) if known.arm == self.control else 0
                    terms = (1, own, own * own, by_control, by_control * by_control)
                    sums = [total + sign * term for total, term in zip(sums, terms, strict=True)]
        return Yardstick(self.control, *sums)

    def means(self) -> tuple[float, float]:
        """Return the mean reward of the policy and of the control; 0 before any outcome."""
        scale = max(self.n, 1) * _ONE
        return self.policy / scale, self.control_sum / scale

    def variances(self) -> tuple[float, float]:
        """Return the variances of their numbers."""
        if not self.n:
            return 0.0, 0.0
        policy, control = self.means()
        scale = self.n * _ONE * _ONE
        return (
            max(self.policy_squares / scale - policy * policy, 0.0),
            max(self.control_squares / scale - control * control, 0.0),
        )


def _probability(record: DecisionRecord, arm: str) -> float | None:
    """Return with which probability an arm would have been drawn; None if it could not, or nothing was."""
    if record.propensity is None or record.propensity_kind == PropensityKind.FORCED.value:
        return None
    if arm not in record.eligible:
        return None
    probability = float(np.frombuffer(record.probabilities, "<f8")[record.eligible.index(arm)])
    return probability if probability > 0 else None
