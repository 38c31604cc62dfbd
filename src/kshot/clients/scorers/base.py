"""The scorer contract: what is asked, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from kshot.arrays import Float64s

Tokens: TypeAlias = tuple[int, ...]
Text: TypeAlias = str | Tokens
"""A text, or the token ids that are fed as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A context of whole demonstrations, some of which may be dropped.

    Its text is all parts, one after the other as they are.

    Attributes
    ----------
    instruction : str
    demonstrations : tuple of str
        In prompt order: the first one is farthest from the query, and the first to be dropped.
    query : str
    """

    instruction: str = ""
    demonstrations: tuple[str, ...] = ()
    query: str = ""

    @property
    def text(self) -> str:
        """What is fed if nothing is dropped."""
        return self.instruction + "".join(self.demonstrations) + self.query


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A context of messages, which the model's own template writes; the completion is what is answered.

    Attributes
    ----------
    messages : tuple of Message
        At least one.
    template_switches : str
        Further variables of the template, as a JSON object. Thinking is switched off, and stays off.
    """

    messages: tuple[Message, ...]
    template_switches: str = "{}"


Context: TypeAlias = Text | Parts | Chat


class Boundary(StrEnum):
    """Where a context ends and its completion begins, in tokens."""

    JOINT = "joint"
    """Context and completion are tokenised as one text; tokens that straddle the border belong to the
    completion, the same number of them for all completions of a context."""
    SEPARATE = "separate"
    """Each is tokenised by itself, as generation would see it."""
    HARNESS = "harness"
    """As lm-evaluation-harness does it; for comparisons with it."""
    IDS = "ids"
    """The caller gave token ids."""


class ScoringMode(StrEnum):
    """How a number was asked for."""

    ECHO = "echo"
    """Log-probabilities of a whole prompt; reads no prefix cache."""
    LABEL = "label"
    """Next-token log-probabilities of single-token completions."""
    TRIE = "trie"
    """Next-token log-probabilities along the tree of all completions of a context."""


Terminator: TypeAlias = Literal["none", "newline", "eot"]
Overflow: TypeAlias = Literal["error", "left", "drop_demos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One completion to be scored given one context. Pairs of equal contexts are scored together."""

    context: Context
    completion: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """How to score; the same for a whole batch.

    Attributes
    ----------
    boundary : Boundary or None
        None: `SEPARATE` where the context is a chat or ends with a newline or a special token, else `JOINT`.
    terminator : str
        Appended to every completion, so that "New" does not always beat "New York".
    mode : ScoringMode or None
        None: the one that costs least.
    on_overflow : str
        What happens to contexts that are too long. ``left`` cuts tokens at their start, ``drop_demos`` leaves
        out whole demonstrations of `Parts`, or exchanges of a `Chat`, the farthest from the query first and
        as many for all completions of a context. A completion is never cut.
    per_token : bool
        Return each token's log-probability as well.
    """

    boundary: Boundary | None = None
    terminator: Terminator = "none"
    mode: ScoringMode | None = None
    on_overflow: Overflow = "error"
    per_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The log-likelihood of one completion.

    Attributes
    ----------
    sum_nats : float
        Sum over the completion's tokens of ln p(token | all before it); -inf where the model rules it out.
    tokens, bytes, characters : int
        Of the completion, the terminator included; at least one token.
    per_token : tuple of float, or None
    greedy : bool or None
        Whether every token was the likeliest one; None where the mode does not tell.
    boundary : Boundary
        The one that was used.
    mode : ScoringMode
    dropped : int
        Tokens that the context lost.
    dropped_demonstrations : int
        Demonstrations that it lost with them.
    lossy : bool
        Whether the tokens fed do not decode to the text that was given.
    cached : bool
        Whether the score was remembered.
    """

    sum_nats: float
    tokens: int
    bytes: int
    characters: int
    boundary: Boundary
    mode: ScoringMode
    per_token: tuple[float, ...] | None = None
    greedy: bool | None = None
    dropped: int = 0
    dropped_demonstrations: int = 0
    lossy: bool = False
    cached: bool = False

    @property
    def truncated(self) -> bool:
        """Whether the model saw less than the context that was given."""
        return self.dropped > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotScored:
    """Why one pair has no score; the others of its batch have theirs.

    ``code`` is one of `kshot.errors`.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A greedy answer, and how sure the model was of it."""

    text: str
    tokens: int
    mean_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One check of a back end.

    Attributes
    ----------
    name : str
        ``C1`` to ``C8``.
    passed : bool
    detail : str
        What was found; quotes no text.
    """

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What scoring some finished items again, in another mode, found.

    Attributes
    ----------
    checked : int
        Items, since the scorer was made.
    p99_nats : float or None
        The 99th percentile of the latest differences per token; None before there are any.
    alarms : int
        How often that was too large, and the canaries were asked again.
    alarm_nats : float or None
        What it was at the last alarm; None once enough later items differ little.
    """

    checked: int = 0
    p99_nats: float | None = None
    alarms: int = 0
    alarm_nats: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a back end can do, found out by asking it.

    Attributes
    ----------
    backend : str
        ``vllm-http``, ``vllm``, ``transformers``, ...
    model : str
    fingerprint : str
        Changes with everything that changes scores: model, revision, numeric type.
    max_model_tokens : int
    modes : tuple of ScoringMode
        Those that passed their canaries; empty where likelihoods are refused.
    tolerance_nats : float
        By how much equal requests may differ, per token: as measured, and at least 0.05 where the model
        computes in 16 bits.
    refusals : tuple of str
        Why a mode, or everything, is refused.
    canaries : tuple of Canary
        What was checked, where that was possible.
    nondeterministic : bool
        Equal requests differ by more than rounding explains.
    audit : AuditReport or None
        What was found since; None where nothing is scored again.
    """

    backend: str
    model: str
    fingerprint: str
    max_model_tokens: int
    modes: tuple[ScoringMode, ...]
    tolerance_nats: float
    refusals: tuple[str, ...] = ()
    canaries: tuple[Canary, ...] = ()
    nondeterministic: bool = False
    audit: AuditReport | None = field(default=None, compare=False)


class Scorer(Protocol):
    """Gives log-likelihoods.

    One instance serves a whole process. Its methods are coroutines of one event loop; they may be called
    concurrently and share the limits on what is in flight. Results do not depend on the order of a batch or
    on what else is in it, but for the model's own noise (`Capabilities.tolerance_nats`), and but for tokens
    that straddle the border of context and completion: how many of them count as the completion's is decided
    for all completions of a context in the batch together (`Boundary.JOINT`). Ask for these in one batch.

    A back end that cannot be trusted raises `ScorerUnavailable` rather than return wrong numbers; a pair that
    cannot be scored comes back as `NotScored` and stops no other.
    """

    async def capabilities(self) -> Capabilities:
        """Return what the back end can do; asks it where that is not known, or was asked long ago."""
        ...

    async def score_batch(
        self, pairs: Sequence[Pair], options: ScoringOptions = ScoringOptions()
    ) -> list[Scored | NotScored]:
        """Score pairs; one result each, in their order."""
        ...

    async def label_logprobs(self, prompts: Sequence[Text], label_token_ids: Sequence[int]) -> Float64s:
        """Return ln p(label | prompt) of single-token labels, in nats, shape (prompts, labels)."""
        ...

    async def greedy(self, prompts: Sequence[Text], max_tokens: int, stop: str = "\n") -> list[Generated]:
        """Return the greedy answer to each prompt and the mean log-probability of its tokens."""
        ...

    async def close(self) -> None:
        """Free connections and memory; a second call does nothing."""
        ...
