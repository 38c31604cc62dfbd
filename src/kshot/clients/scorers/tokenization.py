"""What is asked of a model's tokenizer, as flows: generators that yield calls and are sent the answers.

A flow does no I/O, so that a remote tokenizer and a local one drive the same code.
"""

import json
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from kshot.clients.scorers.base import Message, Tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encode:
    """Token ids of a text, with the model's start and end markers only where ``special`` is set."""

    text: str
    special: bool = False


@dataclass(frozen=True, slots=True)
class Decode:
    """Text of token ids, special tokens spelled out."""

    ids: Tokens


@dataclass(frozen=True, slots=True)
class EncodeChat:
    """Token ids of a chat, as the model's template writes it, with the start of the answer at its end.

    ``switches`` are the template's further variables, as a JSON object.
    """

    messages: tuple[Message, ...]
    switches: str


class NoTemplate(Exception):
    """The tokenizer has no template for chats, or the template takes no such messages."""


TokenizerCall: TypeAlias = Encode | Decode | EncodeChat
TokenizerAnswer: TypeAlias = Tokens | str
Flow: TypeAlias = Generator[list[TokenizerCall], list[TokenizerAnswer], T]


class LocalTokenizer(Protocol):
    """A tokenizer in this process; the model's own, token for token. Any thread may ask, one at a time."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """Return the token ids of ``text``."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens spelled out."""
        ...


@runtime_checkable
class ChatTokenizer(LocalTokenizer, Protocol):
    """One that has the model's template for chats."""

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], switches: Mapping[str, Any]
    ) -> Sequence[int]:
        """Return the token ids of messages and of the start of the answer.

        Raises
        ------
        NoTemplate
            There is no template after all, or it takes no such messages.
        """
        ...


def encodings(texts: Sequence[str]) -> Flow[list[Tokens]]:
    """Ask for the token ids of texts, without markers; the same text is asked for once."""
    answers = yield from _asked([Encode(text) for text in texts])
    return cast("list[Tokens]", answers)


def decodings(sequences: Sequence[Tokens]) -> Flow[list[str]]:
    """Ask for the texts of token ids."""
    answers = yield from _asked([Decode(ids) for ids in sequences])
    return cast("list[str]", answers)


def chat_encoding(messages: tuple[Message, ...], switches: str) -> Flow[Tokens]:
    """Ask for the token ids of a chat."""
    (answer,) = yield from _asked([EncodeChat(messages, switches)])
    return cast("Tokens", answer)


def _asked(calls: Sequence[TokenizerCall]) -> Flow[list[TokenizerAnswer]]:
    distinct = list(dict.fromkeys(calls))
    if not distinct:
        return []
    answers = yield distinct
    call_to_answer = dict(zip(distinct, answers, strict=True))
    return [call_to_answer[call] for call in calls]


def answer_locally(tokenizer: LocalTokenizer, call: TokenizerCall) -> TokenizerAnswer:
    """Answer one call by a tokenizer in this process."""
    if isinstance(call, Decode):
        return tokenizer.decode(call.ids)
    if isinstance(call, EncodeChat):
        if not isinstance(tokenizer, ChatTokenizer):
            raise NoTemplate("the model's tokenizer has no template for chats")
        messages = [{"role": one.role, "content": one.content} for one in call.messages]
        return tuple(tokenizer.encode_chat(messages, json.loads(call.switches)))
    return tuple(tokenizer.encode(call.text, add_special_tokens=call.special))


def run_locally(flow: Flow[T], tokenizer: LocalTokenizer) -> T:
    """Run a flow to its end by a tokenizer in this process.

    Raises
    ------
    NoTemplate
        The flow asks for a chat, and the tokenizer has no template.
    """
    try:
        calls = next(flow)
        while True:
            calls = flow.send([answer_locally(tokenizer, call) for call in calls])
    except StopIteration as end:
        return cast("T", end.value)


async def run_flow(
    flow: Flow[T], ask: Callable[[list[TokenizerCall]], Awaitable[list[TokenizerAnswer]]]
) -> T:
    """Run a flow to its end; ``ask`` answers a list of calls."""
    try:
        calls = next(flow)
        while True:
            answers = await ask(calls)
            calls = flow.send(answers)
    except StopIteration as end:
        return cast("T", end.value)
    finally:
        flow.close()
