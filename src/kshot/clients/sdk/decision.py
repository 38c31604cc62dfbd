"""The answer of ``decide`` as an object that takes its outcome back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kshot.clients.sdk.outbox import FeedbackSink, outcome_item, sent
from kshot.schemas.base import Notice
from kshot.schemas.decisions import DecisionReply, RankedVariant


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """What a policy chose for one query, and with which probability.

    Attributes
    ----------
    reply : DecisionReply
        Everything that the server said.
    """

    reply: DecisionReply
    _sink: FeedbackSink | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Decision(decision_id={self.decision_id!r}, variant={self.variant!r})"

    @property
    def decision_id(self) -> str:
        """Id under which the server keeps the decision."""
        return self.reply.decision_id

    @property
    def variant(self) -> str:
        """What to serve."""
        return self.reply.variant

    @property
    def probability(self) -> float | None:
        """With which it was chosen, exact; None where the caller chose."""
        return self.reply.probability

    @property
    def ranking(self) -> list[RankedVariant]:
        """Every variant that could have been chosen, the most probable first."""
        return self.reply.ranking

    @property
    def messages(self) -> list[dict[str, str]] | None:
        """The variant's prompt as chat messages; None for a variant without one."""
        if self.reply.messages is None:
            return None
        return [message.model_dump() for message in self.reply.messages]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The variant's parameters."""
        return self.reply.parameters

    @property
    def warnings(self) -> list[Notice]:
        """What worked, but perhaps not as meant."""
        return self.reply.warnings

    def feedback(
        self,
        value: float | None = None,
        metric: str | None = None,
        *,
        kind: str = "reward",
        source: str | None = None,
        weight: float = 1.0,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Say how it went, and go on: the client delivers it in the background, once, and retries.

        Parameters
        ----------
        value : float or bool, optional
            In the metric's own unit.
        metric : str, optional
            Default: what the policy learns from.
        kind : "reward", "correct" or "retract"
            Whether this is one more value, replaces all earlier ones, or takes them back.
        source : str, optional
            Who says so.
        weight : float
            How much it is trusted, 0 to 8.
        tags : dict, optional

        Raises
        ------
        InvalidInput
            It cannot be written as JSON, or the decision came without a client, or its client is closed.
        Overloaded
            100,000 outcomes wait already.
        """
        target = {"decision_id": self.decision_id}
        sent(
            self._sink,
            outcome_item(target, value, metric, kind=kind, source=source, weight=weight, tags=tags),
        )
