"""Prompts on the wire: immutable versions, and labels that move between them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kshot.schemas.base import JsonObject, Name, NonBlankText, Page, Reply, Request, Text
from kshot.schemas.selections import Message

Label = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_-]{0,49}$",
        description="lower-case letters, digits, '_' and '-'; such as `production` or `candidate`",
    ),
]
Version = Annotated[int, Field(ge=1, le=1_000_000)]


class TemplateMessage(Request):
    """One turn of a prompt: a sandboxed Jinja2 template that sees the caller's variables."""

    role: Literal["system", "user", "assistant"]
    content: NonBlankText


class PromptContent(Request):
    """What a version says: one text, or turns."""

    template: NonBlankText | None = Field(
        default=None, description="a sandboxed Jinja2 template of the user's turn; give this or `messages`"
    )
    system: Text | None = Field(default=None, description="a template of the system prompt")
    messages: Annotated[list[TemplateMessage], Field(min_length=1, max_length=100)] | None = None

    @model_validator(mode="after")
    def _is_one_form(self) -> "PromptContent":
        if (self.template is None) == (self.messages is None):
            raise ValueError("wants exactly one of template and messages")
        if self.messages is not None and self.system is not None:
            raise ValueError("has messages, so its system prompt is one of them")
        return self


class PromptVersionCreate(PromptContent):
    """Body of ``POST /v1/prompts/{name}/versions``."""

    labels: Annotated[list[Label], Field(max_length=20)] = Field(
        default=[], description="labels that move to this version"
    )
    metadata: JsonObject = {}


class PromptCreate(PromptVersionCreate):
    """Body of ``POST /v1/prompts``: a prompt and its version 1."""

    name: Name


class LabelMove(Request):
    """Body of ``PUT /v1/prompts/{name}/labels/{label}``."""

    version: Version


class PromptVersion(Reply):
    """One version, which never changes."""

    name: str
    version: int
    template: str | None = None
    system: str | None = None
    messages: list[dict[str, str]] | None = None
    variables: list[str] = Field(description="names that the templates use, sorted")
    labels: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    unchanged: bool = Field(
        default=False, description="the newest version said the same already, so none was added"
    )


class PromptInfo(Reply):
    """A prompt: its versions and where its labels stand."""

    name: str
    latest_version: int
    labels: dict[str, int]
    created_at: datetime


class PromptList(Page):
    """One page of prompts, by name."""

    data: list[PromptInfo]


class PromptVersionList(Page):
    """One page of versions, the newest first."""

    data: list[PromptVersion]


class PromptRender(Request):
    """Body of ``POST /v1/prompts/{name}/render``."""

    version: Version | None = None
    label: Label | None = Field(
        default=None, description="default: `production` where it is set, else latest"
    )
    variables: JsonObject = {}

    @model_validator(mode="after")
    def _names_one(self) -> "PromptRender":
        if self.version is not None and self.label is not None:
            raise ValueError("wants at most one of version and label")
        return self


class RenderedPrompt(Reply):
    """A prompt ready to be sent."""

    name: str
    version: int
    messages: list[Message]
    text: str = Field(description="the turns' contents, a blank line between them")


class PromptReference(Request):
    """A prompt of the registry, as a variant names it."""

    name: Name
    version: Version | None = None
    label: Label | None = Field(default=None, description="followed when it moves; default: `production`")

    @model_validator(mode="after")
    def _names_one(self) -> "PromptReference":
        if self.version is not None and self.label is not None:
            raise ValueError("wants at most one of version and label")
        return self
