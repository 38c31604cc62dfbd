"""Likelihoods on the wire: what is scored, and what each completion got."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from kshot.schemas.base import Reply, Request, Text

MOST_PAIRS = 10_000
MOST_FORMS = 100
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31 - 1)]],
    Field(max_length=131_072, description="token ids, fed as they are"),
]
Scorable = Text | TokenIds
Overflow = Literal["error", "left", "drop_demos"]
Normalisation = Literal["sum", "mean_token", "per_byte", "per_character", "pmi"]
BoundaryName = Literal["joint", "separate", "harness", "ids"]


class PartsIn(Request):
    """A context made of demonstrations, which may be dropped; its text is all parts joined as they are."""

    instruction: Text = ""
    demonstrations: list[Text] = Field(
        default=[], max_length=1_000, description="in prompt order; `drop_demos` drops the first ones first"
    )
    query: Text = ""


class MessageIn(Request):
    """One message of a chat."""

    role: Annotated[str, Field(min_length=1, max_length=50)]
    content: Text


class ChatIn(Request):
    """A context of messages, written by the model's own template, up to where the answer begins."""

    messages: list[MessageIn] = Field(min_length=1, max_length=1_000)
    template_switches: dict[str, str | bool | int | float] = Field(
        default={}, description="further variables of the template; thinking stays switched off"
    )


def _kind_of_context(value: Any) -> str:
    """Name the one form that a context tries to have, so that only what is wrong with that one is told."""
    if isinstance(value, PartsIn | ChatIn):
        return "chat" if isinstance(value, ChatIn) else "parts"
    if not isinstance(value, dict):
        return "scorable"
    return "chat" if "messages" in value else "parts"


ContextIn = Annotated[
    Annotated[Scorable, Tag("scorable")] | Annotated[PartsIn, Tag("parts")] | Annotated[ChatIn, Tag("chat")],
    Discriminator(_kind_of_context),
]


class FormsIn(Request):
    """The surface forms of one label: its likelihood is the sum of theirs."""

    forms: list[Scorable] = Field(min_length=1, max_length=MOST_FORMS, description="equal ones count once")


def _kind_of_completion(value: Any) -> str:
    return "forms" if isinstance(value, FormsIn | dict) else "scorable"


CompletionIn = Annotated[
    Annotated[Scorable, Tag("scorable")] | Annotated[FormsIn, Tag("forms")],
    Discriminator(_kind_of_completion),
]


class PairIn(Request):
    """A completion to be scored given a context."""

    context: ContextIn
    completion: CompletionIn


class OptionIn(Request):
    """One of several completions of a context."""

    completion: CompletionIn


class ScoreRequest(Request):
    """Body of ``POST /v1/score``: pairs, or one context with options; a bad one fails alone."""

    pairs: Annotated[list[Any], Field(min_length=1, max_length=MOST_PAIRS)] | None = Field(
        default=None, description="each `{context, completion}`; give these, or `context` and `options`"
    )
    context: ContextIn | None = Field(default=None, description="what all options are conditioned on")
    options: Annotated[list[Any], Field(min_length=1, max_length=MOST_PAIRS)] | None = Field(
        default=None,
        description="completions of the context: each a text, a list of token ids, or `{forms}` of one label",
    )
    normalisation: Normalisation = Field(
        default="sum", description="what `score` is, by which options are compared"
    )
    unconditional_context: ContextIn | None = Field(
        default=None, description="for `pmi`: what a completion's likelihood is compared with"
    )
    boundary: BoundaryName | None = Field(
        default=None,
        description="where a completion begins, in tokens; default: `separate` after a chat, a line end or a "
        "special token, else `joint`",
    )
    terminator: Literal["none", "newline", "eot"] = Field(
        default="none", description="appended to every completion, so that `New` does not beat `New York`"
    )
    on_overflow: Overflow = Field(
        default="error",
        description="`left` cuts the start of contexts that are too long, `drop_demos` drops demonstrations",
    )
    per_token: bool = Field(default=False, description="return each token's log-probability as well")

    @model_validator(mode="after")
    def _has_one_form(self) -> "ScoreRequest":
        if (self.pairs is None) == (self.options is None):
            raise ValueError("wants exactly one of pairs and options")
        if (self.context is None) != (self.options is None):
            raise ValueError("wants context with options, and only with them")
        if self.normalisation == "pmi" and self.unconditional_context is None:
            raise ValueError("has the normalisation pmi, so it wants unconditional_context as well")
        if sum(map(completions_in, self.pairs or self.options or [])) > MOST_PAIRS:
            raise ValueError(f"has more than {MOST_PAIRS} forms of labels")
        return self


def completions_in(given: Any) -> int:
    """Count the completions of one of ``pairs`` or ``options``; what will be refused counts once."""
    completion = given.get("completion", given) if isinstance(given, dict) else given
    forms = completion.get("forms") if isinstance(completion, dict) else None
    return len(forms) if isinstance(forms, list) and 0 < len(forms) <= MOST_FORMS else 1


class ScoreError(Reply):
    """Why one completion has no score."""

    code: str
    message: str


class ScoreItem(Reply):
    """What one completion got; natural logarithms throughout.

    A number is null where it is infinite: `ruled_out` tells that the model gives the completion no chance.
    """

    score: float | None = Field(
        default=None, description="by the request's normalisation; larger is likelier"
    )
    sum_nats: float | None = Field(default=None, description="ln p(completion | context)")
    mean_token_nats: float | None = Field(
        default=None, description="not to be compared between models, whose tokens differ"
    )
    per_byte_nats: float | None = None
    per_character_nats: float | None = None
    pmi_nats: float | None = Field(
        default=None, description="ln p(completion | context) - ln p(completion | unconditional_context)"
    )
    ruled_out: bool = False
    tokens: int | None = Field(default=None, description="of the completion, its terminator included")
    bytes: int | None = None
    characters: int | None = None
    per_token_nats: list[float | None] | None = None
    greedy: bool | None = Field(
        default=None, description="whether every token was the likeliest; null where that was not asked"
    )
    boundary: BoundaryName | None = None
    mode: str | None = Field(default=None, description="`echo`, `label` or `trie`: how it was asked for")
    truncated: bool = Field(default=False, description="whether the model saw less than the context given")
    dropped: int = Field(default=0, description="tokens that the context lost")
    dropped_demonstrations: int = Field(default=0, description="demonstrations that it lost with them")
    lossy: bool = Field(default=False, description="whether the tokens fed decode to another text")
    cached: bool = False
    forms: list["ScoreItem"] | None = Field(
        default=None, description="of a label: what each of its forms got, in their order, equal ones once"
    )
    error: ScoreError | None = None


def best_option(items: Sequence[ScoreItem]) -> int | None:
    """Return the place of the likeliest completion, the first of equals; None if none could be scored.

    One without a finite score counts as the least likely.
    """
    places = [place for place, item in enumerate(items) if item.error is None]
    scores = [-math.inf if item.score is None else item.score for item in items]
    return max(places, key=scores.__getitem__, default=None)


class ScoreReply(Reply):
    """Scores in the order of the request."""

    backend: str
    model: str
    fingerprint: str = Field(description="changes with everything that changes scores")
    tolerance_nats: float = Field(description="by how much equal requests differ, per token")
    normalisation: Normalisation
    results: list[ScoreItem]
    best: int | None = Field(
        default=None,
        description="of options: the place of the likeliest, counted from 0; the first of equals",
    )


class CanaryInfo(Reply):
    """One check of the scorer's back end."""

    name: str
    passed: bool
    detail: str


class AuditInfo(Reply):
    """What scoring one item in a hundred again, in another mode, found."""

    checked: int = Field(description="items, since the scorer was built")
    p99_nats: float | None = Field(
        default=None, description="99th percentile of the latest differences, per token"
    )
    alarms: int = Field(description="how often that was above 0.2, and the canaries were asked again")
    alarm_nats: float | None = Field(
        default=None, description="what it was at the last alarm; null once later items differ little"
    )


class ScorerInfo(Reply):
    """Which scorer is configured, and what it can do."""

    kind: Literal["none", "vllm", "vllm_offline", "transformers"]
    state: str = Field(
        description="`ok`, `none`, `starting`, `refused`, or the code of what is wrong with it"
    )
    detail: str | None = Field(default=None, description="why it is not ok")
    required: bool = Field(description="whether the server is unready without it")
    backend: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    max_model_tokens: int | None = None
    modes: list[str] = []
    tolerance_nats: float | None = None
    refusals: list[str] = Field(default=[], description="why a mode, or everything, is refused")
    nondeterministic: bool = Field(
        default=False, description="whether equal requests differ by more than rounding explains"
    )
    canaries: list[CanaryInfo] = []
    audit: AuditInfo | None = None
