"""Chats as contexts: their tokens by the model's own template, and no thinking before the answer."""

import json
import re

from kshot.clients.scorers.base import Chat, NotScored, Tokens
from kshot.clients.scorers.tokenization import Flow, chat_encoding, decodings
from kshot.errors import InvalidInput, InvalidParameter

THINKING_OFF = {"enable_thinking": False, "thinking": False}
"""The switches by which templates are told not to think; a template that knows none of them reads none."""
_NO_SWITCHES = frozenset({"add_generation_prompt", "chat_template", "continue_final_message", "tokenize"})
_OPEN_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>\s*\Z")


def chat_problem(chat: Chat) -> NotScored | None:
    """Say what is wrong with a chat before any tokenizer is asked."""
    if not chat.messages:
        return NotScored(code=InvalidInput.code, message="the chat has no messages")
    try:
        switches = json.loads(chat.template_switches)
    except (ValueError, RecursionError):
        switches = None
    if not isinstance(switches, dict):
        return NotScored(code=InvalidInput.code, message="template_switches is no JSON object")
    taken = sorted(_NO_SWITCHES & switches.keys())
    if taken:
        return NotScored(code=InvalidParameter.code, message=f"{taken[0]} is no switch of a template")
    if any(switches.get(name, False) is not False for name in THINKING_OFF):
        return NotScored(
            code=InvalidParameter.code,
            message="likelihoods are those of answers without thinking before them, so it stays off",
        )
    return None


def written(chat: Chat) -> Flow[tuple[Tokens, str] | NotScored]:
    """Return the tokens of a chat up to where the answer begins, and their text.

    A template that opens a thought there all the same is refused: what follows is no answer.
    """
    problem = chat_problem(chat)
    if problem is not None:
        return problem
    switches = json.dumps({**json.loads(chat.template_switches), **THINKING_OFF}, sort_keys=True)
    ids = yield from chat_encoding(chat.messages, switches)
    if not ids:
        return NotScored(code=InvalidInput.code, message="the model's template makes nothing of the chat")
    (text,) = yield from decodings([ids])
    if _OPEN_THOUGHT.search(text):
        return NotScored(
            code=InvalidParameter.code,
            message="the model's template begins every answer with a thought, so answers have no likelihood",
        )
    return ids, text
