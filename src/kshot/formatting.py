"""How examples become prompt text where a pool has no template of its own.

One definition for server and SDK, of plain strings only, so that a prompt put together by either is the same.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeAlias

from kshot.records import Content

Style: TypeAlias = Literal["turns", "inline"]
"""Demonstrations as user/assistant turns, or inside one user message."""

SEPARATOR = "\n\n"
"""What stands between two demonstrations of an inline prompt."""
CHARACTERS_PER_TOKEN = 3.5
"""Estimate for pools without a tokenizer."""


def content_text(content: Content | None) -> str:
    """Write inputs or outputs as one text.

    Text stays as it is. Fields become ``name: value`` lines in their given order: a field that is None is
    left out, a value that is no text is written as JSON. Absent content is the empty text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(f"{name}: {_value_text(value)}" for name, value in content.items() if value is not None)


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def estimated_tokens(text: str) -> int:
    """Estimate a length in tokens from the number of characters, rounded up."""
    return ceil(len(text) / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Turn:
    """One demonstration as text: its two sides, and both together for an inline prompt."""

    input: str
    output: str
    text: str

    @classmethod
    def of(cls, inputs: Content, outputs: Content | None) -> "Turn":
        """Render one example with the default template."""
        shown, answer = content_text(inputs), content_text(outputs)
        return cls(shown, answer, f"Input: {shown}\nOutput: {answer}")


@dataclass(frozen=True, slots=True)
class QueryTurn:
    """The query as text: as a user turn, and as the open end of an inline prompt."""

    input: str
    text: str

    @classmethod
    def of(cls, inputs: Content) -> "QueryTurn":
        """Render a query with the default template."""
        shown = content_text(inputs)
        return cls(shown, f"Input: {shown}\nOutput:")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Rendered parts, in prompt order, that can be laid out as chat messages or as one text.

    Attributes
    ----------
    turns : sequence of `Turn`
    query : `QueryTurn`, or None for the demonstrations alone
    system : str, or None
        Instructions that stand before everything else.
    separator : str
        Stands between the parts of an inline prompt.
    """

    turns: Sequence[Turn]
    query: QueryTurn | None = None
    system: str | None = None
    separator: str = SEPARATOR

    def text(self) -> str:
        """Lay everything out as one text, the system part first."""
        return self._joined([self.system] if self.system else [])

    def messages(self, style: Style = "turns") -> list[dict[str, str]]:
        """Lay everything out as chat messages; a system part becomes the first one.

        With ``turns`` each demonstration is a user and an assistant message and the query is the last user
        message. With ``inline`` all of it is one user message.
        """
        messages = [{"role": "system", "content": self.system}] if self.system else []
        return messages + self.conversation(style)

    def conversation(self, style: Style = "turns") -> list[dict[str, str]]:
        """Lay out the messages without the system part, for interfaces that take it apart from them."""
        if style == "inline":
            text = self._joined([])
            return [{"role": "user", "content": text}] if text else []
        messages: list[dict[str, str]] = []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.input})
            messages.append({"role": "assistant", "content": turn.output})
        if self.query is not None:
            messages.append({"role": "user", "content": self.query.input})
        return messages

    def _joined(self, head: Iterable[str]) -> str:
        tail = [] if self.query is None else [self.query.text]
        return self.separator.join([*head, *(turn.text for turn in self.turns), *tail])
