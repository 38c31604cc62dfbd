"""The answer of ``select`` as an object that becomes a prompt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict, overload

from kshot.clients.sdk.outbox import FeedbackSink, outcome_item, sent
from kshot.errors import InvalidParameter
from kshot.formatting import Prompt, QueryTurn, Style, Turn
from kshot.records import Content
from kshot.schemas.base import Notice
from kshot.schemas.selections import Demonstration, Explanation, SelectionReply, Usage


class AnthropicPrompt(TypedDict):
    """Messages with the system text apart from them; ``system`` is absent where there is none."""

    system: NotRequired[str]
    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True, repr=False)
class Selection:
    """The best set of demonstrations for one query, in prompt order; iterable, with a length.

    Attributes
    ----------
    reply : SelectionReply
        Everything that the server said.
    query : str, dict or None
        The inputs that were asked for.
    is_fallback : bool
        True when no server answered and the caller's own demonstrations stand in; there is no
        ``selection_id`` then, and ``warnings`` names the failure.
    """

    reply: SelectionReply
    query: Content | None = None
    is_fallback: bool = False
    _sink: FeedbackSink | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Demonstration]:
        return iter(self.reply.demonstrations)

    def __len__(self) -> int:
        return len(self.reply.demonstrations)

    def __bool__(self) -> bool:
        # An answer without demonstrations is an answer still: `if selection:` must not hide an abstention.
        return True

    def __repr__(self) -> str:
        ids = [demonstration.id for demonstration in self]
        return f"Selection(selection_id={self.selection_id!r}, method={self.method!r}, ids={ids!r})"

    @property
    def demonstrations(self) -> list[Demonstration]:
        """The chosen examples, in prompt order."""
        return self.reply.demonstrations

    @property
    def selection_id(self) -> str | None:
        """Id under which the server keeps the selection; None for a fallback."""
        return self.reply.selection_id or None

    @property
    def method(self) -> str:
        """Name of the method that chose."""
        return self.reply.method

    @property
    def usage(self) -> Usage:
        """What the set costs in tokens, and how many rows it was chosen from."""
        return self.reply.usage

    @property
    def exactness(self) -> str:
        """What is known beside a choice from every eligible row: "exact", "certified" or "approximate"."""
        return self.reply.exactness

    @property
    def degraded(self) -> bool:
        """True when the answer is not what was asked for but the best that could be had."""
        return self.reply.degraded

    @property
    def abstained(self) -> bool:
        """True when nothing reached ``min_score``."""
        return self.reply.abstained

    @property
    def warnings(self) -> list[Notice]:
        """What worked, but perhaps not as meant."""
        return self.reply.warnings

    @property
    def explain(self) -> Explanation | None:
        """Why these; only when asked for with ``explain=True``."""
        return self.reply.explain

    def feedback(
        self,
        value: float | None = None,
        metric: str | None = None,
        *,
        demonstration: Content | None = None,
        kind: str = "reward",
        source: str | None = None,
        weight: float = 1.0,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Say how it went, and go on: the client delivers it in the background, once, and retries.

        Of a fallback nothing is sent, as no server knows it.

        Parameters
        ----------
        value : float or bool, optional
            In the metric's own unit.
        metric : str, optional
            Default: ``reward``, a number from 0 to 1.
        demonstration : str or dict, optional
            The output that would have been right: with the query it becomes a draft example of the pool.
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
            It cannot be written as JSON, or the selection came without a client, or its client is closed.
        Overloaded
            100,000 outcomes wait already.
        """
        if self.selection_id is None:
            return
        item = outcome_item(
            {"selection_id": self.selection_id},
            value,
            metric,
            demonstration=demonstration,
            kind=kind,
            source=source,
            weight=weight,
            tags=tags,
        )
        sent(self._sink, item)

    def text(self, query: Content | None = None) -> str:
        r"""Return the prompt as one text.

        Without a template of the pool's own that is ``Input: ...\nOutput: ...`` per demonstration and an open
        ``Output:`` for the query, with an empty line between them.

        Parameters
        ----------
        query : str, dict or None
            Stands in for the inputs given to ``select``.

        Raises
        ------
        InvalidParameter
            The pool has its own prompt template, which only the server can apply to another query.
        """
        return self._prompt(query).text()

    @overload
    def messages(
        self, query: Content | None = None, format: Literal["openai"] = "openai", style: Style = "turns"
    ) -> list[dict[str, str]]: ...

    @overload
    def messages(
        self, query: Content | None = None, *, format: Literal["anthropic"], style: Style = "turns"
    ) -> AnthropicPrompt: ...

    def messages(
        self,
        query: Content | None = None,
        format: Literal["openai", "anthropic"] = "openai",  # noqa: A002  (the word that callers expect)
        style: Style = "turns",
    ) -> list[dict[str, str]] | AnthropicPrompt:
        """Return the prompt as chat messages.

        Parameters
        ----------
        query : str, dict or None
            Stands in for the inputs given to ``select``. Without either the demonstrations stand alone.
        format : "openai" or "anthropic"
            A list of messages, a system text first if the pool's template has one; or a dictionary
            ``{"system": ..., "messages": [...]}`` to be passed on with ``**``, whose list has no system
            message and whose ``system`` is absent where there is none.
        style : "turns" or "inline"
            Demonstrations as user and assistant turns, or all of them inside one user message.

        Raises
        ------
        InvalidParameter
            Another format or style; or the pool has its own prompt template and another query is given.
        """
        if style not in {"turns", "inline"}:
            raise InvalidParameter(f"style is {style!r}, allowed: turns, inline")
        prompt = self._prompt(query)
        if format == "openai":
            return prompt.messages(style)
        if format == "anthropic":
            conversation: AnthropicPrompt = {"messages": prompt.conversation(style)}
            if prompt.system:
                conversation["system"] = prompt.system
            return conversation
        raise InvalidParameter(f"format is {format!r}, allowed: openai, anthropic")

    def _prompt(self, query: Content | None) -> Prompt:
        frame = self.reply.frame
        if frame is None:
            inputs = self.query if query is None else query
            return Prompt(
                turns=[Turn.of(shown.inputs, shown.outputs) for shown in self],
                query=None if inputs is None else QueryTurn.of(inputs),
            )
        if query is not None and query != self.query:
            raise InvalidParameter(
                "the pool has its own prompt template, which only the server can apply to another query; "
                "use select or render with that query"
            )
        turns = [_rendered(shown) for shown in self]
        if frame.query_input is None or frame.query_text is None:
            return Prompt(turns, None, frame.system, frame.separator)
        return Prompt(turns, QueryTurn(frame.query_input, frame.query_text), frame.system, frame.separator)


def _rendered(shown: Demonstration) -> Turn:
    if shown.rendered is None:
        return Turn.of(shown.inputs, shown.outputs)
    parts: dict[str, Any] = shown.rendered.model_dump()
    return Turn(**parts)
