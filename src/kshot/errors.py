"""Every exception that kshot raises on purpose.

::

    KshotError                 internal
    ├─ InvalidInput            invalid_input
    │  ├─ InvalidShape         invalid_shape
    │  ├─ InvalidParameter     invalid_parameter
    │  ├─ UnknownSelector      unknown_selector
    │  ├─ InvalidFilter        invalid_filter
    │  ├─ InvalidTemplate      invalid_template
    │  ├─ PayloadTooLarge      payload_too_large
    │  ├─ TooCostly            too_costly
    │  ├─ UnsupportedMediaType unsupported_media_type
    │  └─ MethodNotAllowed     method_not_allowed
    ├─ Unauthorized            unauthorized
    ├─ NotFound                not_found
    │  ├─ PoolNotFound         pool_not_found
    │  ├─ ExampleNotFound      example_not_found
    │  ├─ SelectionNotFound    selection_not_found
    │  ├─ JobNotFound          job_not_found
    │  ├─ PlanNotFound         plan_not_found
    │  ├─ PromptNotFound       prompt_not_found
    │  ├─ PolicyNotFound       policy_not_found
    │  ├─ VariantNotFound      variant_not_found
    │  ├─ DecisionNotFound     decision_not_found
    │  └─ MetricNotFound       metric_not_found
    ├─ Conflict                conflict
    │  ├─ PoolExists           pool_exists
    │  ├─ PromptExists         prompt_exists
    │  ├─ PolicyExists         policy_exists
    │  ├─ MetricExists         metric_exists
    │  ├─ DecisionConflict     decision_conflict
    │  ├─ InsufficientSupport  insufficient_support
    │  ├─ EmbedderMismatch     embedder_mismatch
    │  ├─ DimensionMismatch    dimension_mismatch
    │  ├─ IdempotencyConflict  idempotency_conflict
    │  └─ DataFolderLocked     data_folder_locked
    ├─ MissingDependency       missing_dependency
    ├─ Unavailable             unavailable          (worth a retry)
    │  ├─ ServerUnreachable    server_unreachable
    │  ├─ EmbedderUnavailable  embedder_unavailable
    │  ├─ ScorerUnavailable    scorer_unavailable
    │  └─ Overloaded           overloaded
    └─ Corrupt                 corrupt
       ├─ SegmentCorrupt       segment_corrupt
       ├─ StoreCorrupt         store_corrupt
       └─ StateCorrupt         state_corrupt

``code`` is stable and travels over HTTP: the server turns an exception into problem+json, the client turns
the problem back into the same class, so ``except PoolNotFound`` works in process and across the wire.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that was refused, and why.

    ``pointer`` is a JSON pointer into the request (``/k``, ``/examples/3/inputs``); ``line`` counts from 1 in
    NDJSON bodies and files.
    """

    pointer: str
    message: str
    code: str = "invalid"
    line: int | None = None


class KshotError(Exception):
    """A failure inside kshot that no narrower class describes; report it."""

    code: ClassVar[str] = "internal"

    def __init__(
        self, message: str | None = None, *, errors: Sequence[FieldError] = (), request_id: str | None = None
    ) -> None:
        super().__init__(message or (self.__doc__ or self.code).strip().splitlines()[0])
        self.message: str = str(self.args[0])
        self.errors: tuple[FieldError, ...] = tuple(errors)
        self.request_id = request_id


class InvalidInput(KshotError):
    """The request or argument is malformed; ``errors`` names the fields."""

    code = "invalid_input"


class InvalidShape(InvalidInput):
    """An array has the wrong shape, dtype or holds NaN or infinity; raised by `kshot.arrays`."""

    code = "invalid_shape"


class InvalidParameter(InvalidInput):
    """A parameter is unknown or outside its range; the message names the allowed values."""

    code = "invalid_parameter"


class UnknownSelector(InvalidInput):
    """No selector has that name; the message lists those that exist."""

    code = "unknown_selector"


class InvalidFilter(InvalidInput):
    """A filter does not follow the filter language of `kshot.schemas.filters`."""

    code = "invalid_filter"


class InvalidTemplate(InvalidInput):
    """A template does not compile or refers to something that the example does not have."""

    code = "invalid_template"


class PayloadTooLarge(InvalidInput):
    """A body or field is larger than the configured limit."""

    code = "payload_too_large"


class TooCostly(InvalidInput):
    """The request would ask the scorer for more than the server allows; the message tells what to change."""

    code = "too_costly"


class UnsupportedMediaType(InvalidInput):
    """The body's ``Content-Type`` is none that the path reads; the message names those it does."""

    code = "unsupported_media_type"


class MethodNotAllowed(InvalidInput):
    """The path exists, but not with this HTTP method."""

    code = "method_not_allowed"


class Unauthorized(KshotError):
    """The API key is missing or wrong."""

    code = "unauthorized"


class NotFound(KshotError):
    """The resource does not exist."""

    code = "not_found"


class PoolNotFound(NotFound):
    """No pool has that name; create it first."""

    code = "pool_not_found"


class ExampleNotFound(NotFound):
    """The pool holds no example with that id."""

    code = "example_not_found"


class SelectionNotFound(NotFound):
    """No selection has that id, or it passed its retention."""

    code = "selection_not_found"


class JobNotFound(NotFound):
    """No job has that id."""

    code = "job_not_found"


class PlanNotFound(NotFound):
    """No plan has that id; `GET /v1/plans` lists those there are."""

    code = "plan_not_found"


class PromptNotFound(NotFound):
    """No prompt, or no such version or label of it."""

    code = "prompt_not_found"


class PolicyNotFound(NotFound):
    """No policy has that name."""

    code = "policy_not_found"


class VariantNotFound(NotFound):
    """The policy has no variant of that name."""

    code = "variant_not_found"


class DecisionNotFound(NotFound):
    """No decision has that id, or its retention has ended."""

    code = "decision_not_found"


class MetricNotFound(NotFound):
    """No metric of that name is declared."""

    code = "metric_not_found"


class Conflict(KshotError):
    """The request contradicts the present state."""

    code = "conflict"


class PoolExists(Conflict):
    """A pool of that name exists already."""

    code = "pool_exists"


class PromptExists(Conflict):
    """A prompt of that name exists."""

    code = "prompt_exists"


class PolicyExists(Conflict):
    """A policy of that name exists."""

    code = "policy_exists"


class MetricExists(Conflict):
    """A metric of that name is declared otherwise."""

    code = "metric_exists"


class DecisionConflict(Conflict):
    """A decision's id was used for another request, or its state does not allow what was asked."""

    code = "decision_conflict"


class InsufficientSupport(Conflict):
    """The logged decisions say too little about the policy in question to estimate its reward."""

    code = "insufficient_support"


class EmbedderMismatch(Conflict):
    """The pool was built with another embedder, revision or embed template; re-embed it first."""

    code = "embedder_mismatch"


class DimensionMismatch(Conflict):
    """A vector has another dimension than the pool."""

    code = "dimension_mismatch"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another body, or its first request is still running."""

    code = "idempotency_conflict"


class DataFolderLocked(Conflict):
    """Another process owns the data folder; the message names it."""

    code = "data_folder_locked"


class MissingDependency(KshotError):
    """An optional engine is not installed; the message holds the exact install line."""

    code = "missing_dependency"

    @classmethod
    def of(cls, package: str, *, extra: str, purpose: str) -> "MissingDependency":
        """Name the missing package and the extra that brings it."""
        return cls(f'{purpose} needs {package}, which is not installed: pip install "kshot[{extra}]"')


class Unavailable(KshotError):
    """Something that kshot depends on does not answer; a retry may succeed."""

    code = "unavailable"


class ServerUnreachable(Unavailable):
    """The kshot server cannot be reached; raised by the clients."""

    code = "server_unreachable"


class EmbedderUnavailable(Unavailable):
    """The embeddings endpoint does not answer."""

    code = "embedder_unavailable"


class ScorerUnavailable(Unavailable):
    """No likelihood scorer is configured, it does not answer, or it gives numbers that cannot be trusted.

    What needs likelihoods waits or does without; everything else works.
    """

    code = "scorer_unavailable"


class Overloaded(Unavailable):
    """The server has more work than it accepts; honour ``Retry-After``."""

    code = "overloaded"


class Corrupt(KshotError):
    """Stored data fails its checks."""

    code = "corrupt"


class SegmentCorrupt(Corrupt):
    """A segment file fails its checksum; it is recomputed from the store."""

    code = "segment_corrupt"


class StoreCorrupt(Corrupt):
    """The database cannot be read as a kshot store."""

    code = "store_corrupt"


class StateCorrupt(Corrupt):
    """A policy's saved state fails its checksum; an older one and the log replace it."""

    code = "state_corrupt"


def _tree(cls: type[KshotError]) -> Iterator[type[KshotError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)


def code_to_error() -> dict[str, type[KshotError]]:
    """Map every stable code to its class."""
    return {cls.code: cls for cls in _tree(KshotError)}
