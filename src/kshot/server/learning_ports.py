"""What the HTTP shell asks of the services that learn; `kshot.server.ports` has the rest."""

from typing import Protocol

from kshot.schemas.base import Deleted
from kshot.schemas.decisions import (
    DecideRequest,
    DecisionReply,
    EvaluateRequest,
    EvaluationReply,
    PolicyReport,
    ServedRequest,
)
from kshot.schemas.feedback import (
    Feedback,
    FeedbackBatch,
    FeedbackBatchReply,
    FeedbackReply,
    MetricCreate,
    MetricInfo,
    MetricList,
    UtilityList,
)
from kshot.schemas.policies import (
    PolicyCreate,
    PolicyInfo,
    PolicyList,
    PolicyPatch,
    VariantCreate,
    VariantPatch,
)
from kshot.schemas.prompts import (
    LabelMove,
    PromptCreate,
    PromptInfo,
    PromptList,
    PromptRender,
    PromptVersion,
    PromptVersionCreate,
    PromptVersionList,
    RenderedPrompt,
)


class PromptService(Protocol):
    """Keeps prompts."""

    async def create(self, request: PromptCreate) -> PromptVersion:
        """Create a prompt and its version 1; `PromptExists` if the name is taken."""
        ...

    async def add_version(self, name: str, request: PromptVersionCreate) -> PromptVersion:
        """Add a version; one that says the same as the newest is not added again."""
        ...

    async def list(self, cursor: str | None, limit: int) -> PromptList:
        """Return one page of prompts."""
        ...

    async def get(self, name: str) -> PromptInfo:
        """Describe a prompt; `PromptNotFound` if there is none."""
        ...

    async def versions(self, name: str, cursor: str | None, limit: int) -> PromptVersionList:
        """Return one page of versions, the newest first."""
        ...

    async def version(self, name: str, which: str) -> PromptVersion:
        """Return a version by number, by label, or the newest as ``latest``."""
        ...

    async def move_label(self, name: str, label: str, request: LabelMove) -> PromptVersion:
        """Let a label stand at a version."""
        ...

    async def remove_label(self, name: str, label: str) -> None:
        """Take a label away."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a prompt with its versions."""
        ...

    async def render(self, name: str, request: PromptRender) -> RenderedPrompt:
        """Put a prompt together with the caller's variables."""
        ...


class MetricService(Protocol):
    """Knows what outcomes are measured in."""

    async def declare(self, request: MetricCreate) -> MetricInfo:
        """Declare a metric; `MetricExists` if it is declared otherwise."""
        ...

    async def list(self, cursor: str | None, limit: int) -> MetricList:
        """Return one page of metrics."""
        ...

    async def get(self, name: str) -> MetricInfo:
        """Describe a metric; `MetricNotFound` if there is none."""
        ...


class PolicyService(Protocol):
    """Keeps policies and their variants."""

    async def create(self, request: PolicyCreate) -> PolicyInfo:
        """Create a policy; `PolicyExists` if the name is taken."""
        ...

    async def list(self, cursor: str | None, limit: int) -> PolicyList:
        """Return one page of policies."""
        ...

    async def get(self, name: str) -> PolicyInfo:
        """Describe a policy; `PolicyNotFound` if there is none."""
        ...

    async def patch(self, name: str, request: PolicyPatch) -> PolicyInfo:
        """Change the fields in ``request.model_fields_set``; an explicit null clears one."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a policy with its decisions."""
        ...

    async def add_variant(self, name: str, request: VariantCreate) -> PolicyInfo:
        """Add a variant; `Conflict` if the policy has one of that name."""
        ...

    async def patch_variant(self, name: str, variant: str, request: VariantPatch) -> PolicyInfo:
        """Change a variant's status or cost; `VariantNotFound` if there is none."""
        ...


class DecisionService(Protocol):
    """Decides, and keeps what was decided."""

    async def decide(self, policy: str, request: DecideRequest) -> DecisionReply:
        """Choose a variant; the same decision id again gives the same answer."""
        ...

    async def get(self, decision_id: str) -> DecisionReply:
        """Return a decision; `DecisionNotFound` if there is none."""
        ...

    async def activate(self, decision_id: str) -> DecisionReply:
        """Take note that it was shown; `DecisionConflict` if it was cancelled."""
        ...

    async def cancel(self, decision_id: str) -> DecisionReply:
        """Take note that it never will be."""
        ...

    async def served(self, decision_id: str, request: ServedRequest) -> DecisionReply:
        """Take note that something else was shown."""
        ...

    async def delete(self, subject_id: str) -> Deleted:
        """Erase every decision about a subject."""
        ...


class ReportService(Protocol):
    """Tells how policies do."""

    async def report(self, policy: str, periods: int) -> PolicyReport:
        """Report on a policy, in so many periods; `PolicyNotFound` if there is none."""
        ...


class EvaluationService(Protocol):
    """Answers what would have been."""

    async def evaluate(self, policy: str, request: EvaluateRequest) -> EvaluationReply:
        """Estimate what some targets would have earned."""
        ...


class FeedbackService(Protocol):
    """Takes outcomes in."""

    async def add(self, request: Feedback) -> FeedbackReply:
        """Append one outcome, once."""
        ...

    async def add_batch(self, request: FeedbackBatch) -> FeedbackBatchReply:
        """Append many; a bad one stops no other."""
        ...

    async def utilities(self, pool: str, metric: str, cursor: str | None, limit: int) -> UtilityList:
        """Return one page of what examples were worth, those that hurt most first."""
        ...
