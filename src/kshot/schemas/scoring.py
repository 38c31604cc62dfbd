"""Likelihoods on the wire: what is scored, and what each completion got."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kshot.schemas.base import Reply, Request, Text

MOST_PAIRS = 10_000
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31 - 1)]],
    Field(max_length=131_072, description="token ids, fed as they are"),
]
Scorable = Text | TokenIds
Normalisation = Literal["sum", "mean_token", "per_byte", "per_character", "pmi"]
BoundaryName = Literal["joint", "separate", "harness", "ids"]


class PairIn(Request):
    """A completion to be scored given a context."""

    context: Scorable
    completion: Scorable


class OptionIn(Request):
    """One of several completions of a context."""

    completion: Scorable


class ScoreRequest(Request):
    """Body of ``POST /v1/score``: pairs, or one context with options; a bad one fails alone."""

    pairs: Annotated[list[Any], Field(min_length=1, max_length=MOST_PAIRS)] | None = Field(
        default=None, description="each `{context, completion}`; give these, or `context` and `options`"
    )
    context: Scorable | None = Field(default=None, description="what all options are conditioned on")
    options: Annotated[list[Any], Field(min_length=1, max_length=MOST_PAIRS)] | None = Field(
        default=None, description="completions of the context: texts, or lists of token ids"
    )
    normalisation: Normalisation = Field(
        default="sum", description="what `score` is, by which options are compared"
    )
    unconditional_context: Scorable | None = Field(
        default=None, description="for `pmi`: what a completion's likelihood is compared with"
    )
    boundary: BoundaryName | None = Field(
        default=None,
        description="where a completion begins, in tokens; default: `separate` after a line end or a special "
        "token, else `joint`",
    )
    terminator: Literal["none", "newline", "eot"] = Field(
        default="none", description="appended to every completion, so that `New` does not beat `New York`"
    )
    on_overflow: Literal["error", "left"] = Field(
        default="error", description="`left` cuts the start of contexts that are too long"
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
        return self


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
    dropped: int = Field(default=0, description="tokens cut from the context's start")
    lossy: bool = Field(default=False, description="whether the tokens fed decode to another text")
    cached: bool = False
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
