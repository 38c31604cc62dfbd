"""What the HTTP shell asks of the services that learn; `kshot.server.ports` has the rest."""

from typing import Protocol

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
