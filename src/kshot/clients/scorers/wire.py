"""Requests to vLLM's ``/v1/completions`` and what their answers say, as pure functions.

Four forms. *Prompt form* (``prompt_logprobs``) and *echo form* (``echo`` with ``logprobs``) read whole
prompts; *label form* (``logprob_token_ids``) and *forced form* (``allowed_token_ids``) ask for the next one.

Traps of the format: a prompt's first entry is null; one generated token follows the prompt's in echo form,
but not where ``max_tokens`` is 0; -9999 stands for minus infinity; choices come in any order; tokens named by
their text collide, so that they are named by their ids.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from kshot.clients.scorers.base import Tokens

T = TypeVar("T")
MAX_LABELS = 128
"""Ids that one request may ask for."""
_LEAST = -9999.0
_MOST = 1e-3
"""Rounding may push a certain token's log-probability a little above zero, but no further."""
_ID_NAME = re.compile(r"token_id:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Which forms a server understands.

    Attributes
    ----------
    prompt_form, echo_form, label_form, forced_form : bool
    no_tokens : bool
        ``max_tokens: 0`` is accepted together with ``echo``.
    id_names : bool
        Tokens are named by their ids on request.
    """

    prompt_form: bool = True
    echo_form: bool = True
    label_form: bool = True
    forced_form: bool = True
    no_tokens: bool = False
    id_names: bool = True


class Malformed(Exception):
    """An answer does not say what was asked; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a server says of one prompt of n tokens.

    Attributes
    ----------
    nats : tuple of float
        ln p of the tokens after the first one, n - 1 of them.
    likeliest : tuple of bool
        Whether each of these was the likeliest one.
    """

    nats: tuple[float, ...]
    likeliest: tuple[bool, ...]

    def completion(self, context_tokens: int) -> "Read":
        """Return the part after a context of that many tokens."""
        return Read(self.nats[context_tokens - 1 :], self.likeliest[context_tokens - 1 :])


@dataclass(frozen=True, slots=True)
class Next:
    """What a server says of the token after one prompt.

    Attributes
    ----------
    id_to_nats : mapping
        ln p of the ids asked for.
    chosen : int
        The token that was generated: the likeliest one, unless others were forbidden.
    """

    id_to_nats: Mapping[int, float]
    chosen: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A generated text and ln p of each of its tokens."""

    text: str
    nats: tuple[float, ...]


def reading_request(model: str, prompts: Sequence[Tokens], dialect: Dialect) -> dict[str, Any]:
    """Ask for the log-probabilities of prompts: by prompt form where the server knows it, else by echo."""
    if dialect.prompt_form:
        return {**_common(model, prompts), "max_tokens": 1, "prompt_logprobs": 0}
    body = {**_common(model, prompts), "max_tokens": 0 if dialect.no_tokens else 1}
    return {**body, "echo": True, "logprobs": 1, "return_tokens_as_token_ids": True}


def parse_reading(
    answer: Any, prompts: Sequence[Tokens], dialect: Dialect
) -> tuple[list[Read | Malformed], str]:
    """Return what is said of each prompt, and the name of the model that says it."""
    if dialect.prompt_form:
        return _each(answer, prompts, _by_prompt)

    def by_echo(choice: Mapping[str, Any], prompt: Tokens) -> Read:
        return _by_echo(choice, prompt, dialect)

    return _each(answer, prompts, by_echo)


def label_request(model: str, prompts: Sequence[Tokens], ids: Sequence[int]) -> dict[str, Any]:
    """Ask for the log-probabilities of ``ids``, at most 128, as the token after each prompt."""
    body = {**_common(model, prompts), "max_tokens": 1, "return_tokens_as_token_ids": True}
    return {**body, "logprobs": 1, "logprob_token_ids": list(ids)}


def forced_request(
    model: str, prompts: Sequence[Tokens], token: int, *, temperature: float = 0.0
) -> dict[str, Any]:
    """Ask for the log-probability of one token, by allowing no other one."""
    body = {**_common(model, prompts), "max_tokens": 1, "return_tokens_as_token_ids": True}
    return {**body, "temperature": temperature, "logprobs": 0, "allowed_token_ids": [token]}


def top_request(
    model: str, prompts: Sequence[Tokens], width: int, *, temperature: float = 0.0
) -> dict[str, Any]:
    """Ask for the ``width`` likeliest tokens after each prompt."""
    body = {**_common(model, prompts), "max_tokens": 1, "return_tokens_as_token_ids": True}
    return {**body, "temperature": temperature, "logprobs": width}


def parse_next(answer: Any, prompts: Sequence[Tokens]) -> tuple[list[Next | Malformed], str]:
    """Return what is said of the token after each prompt, and the name of the model that says it.

    Ids that were asked for may be missing: the caller looks.
    """
    return _each(answer, prompts, _next)


def generation_request(model: str, prompts: Sequence[Tokens], max_tokens: int, stop: str) -> dict[str, Any]:
    """Ask for greedy answers."""
    body = {**_common(model, prompts), "max_tokens": max_tokens, "logprobs": 0}
    return {**body, "skip_special_tokens": True, **({"stop": [stop]} if stop else {})}


def parse_generation(answer: Any, prompts: Sequence[Tokens]) -> tuple[list[Answered | Malformed], str]:
    """Return the generated texts, and the name of the model that wrote them."""
    return _each(answer, prompts, _answered)


def _common(model: str, prompts: Sequence[Tokens]) -> dict[str, Any]:
    # Neutral parameters only: others make old servers fail. The wire's default of `max_tokens` is 16.
    return {
        "model": model,
        "prompt": [list(prompt) for prompt in prompts],
        "n": 1,
        "temperature": 0.0,
        "seed": 0,
        "skip_special_tokens": False,
    }


def _each(
    answer: Any, prompts: Sequence[Tokens], parse: Callable[[Mapping[str, Any], Tokens], T]
) -> tuple[list[T | Malformed], str]:
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        indices = [choice["index"] for choice in choices]
        model = answer["model"]
    except (TypeError, KeyError, AttributeError):
        raise Malformed("the answer has no choices or no model") from None
    if indices != list(range(len(prompts))) or not isinstance(model, str):
        raise Malformed(f"{len(indices)} choices for {len(prompts)} prompts, or choices without their index")
    parsed: list[T | Malformed] = []
    for choice, prompt in zip(choices, prompts, strict=True):
        try:
            parsed.append(parse(choice, prompt))
        except Malformed as error:
            parsed.append(error)
        except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
            parsed.append(Malformed(f"a choice is not in the expected form: {type(error).__name__}"))
    return parsed, model


def _by_prompt(choice: Mapping[str, Any], prompt: Tokens) -> Read:
    entries = choice["prompt_logprobs"]
    if entries is None or len(entries) != len(prompt) or entries[0] is not None:
        said = "no" if entries is None else str(len(entries))
        raise Malformed(f"{said} prompt_logprobs for {len(prompt)} tokens, the first of which has none")
    nats, likeliest = [], []
    for token, entry in zip(prompt[1:], entries[1:], strict=True):
        if entry is None or str(token) not in entry:
            raise Malformed("a prompt_logprobs entry is not about the token that was sent")
        said_of_token = entry[str(token)]
        nats.append(_nats(said_of_token["logprob"]))
        likeliest.append(said_of_token["rank"] == 1)
    return Read(tuple(nats), tuple(likeliest))


def _by_echo(choice: Mapping[str, Any], prompt: Tokens, dialect: Dialect) -> Read:
    told = choice["logprobs"]
    values, tops, names = told["token_logprobs"], told["top_logprobs"], told["tokens"]
    generated = 0 if dialect.no_tokens else 1
    wanted = len(prompt) + generated
    if not len(values) == len(tops) == len(names) == wanted or values[0] is not None:
        raise Malformed(f"{len(values)} echoed tokens for {len(prompt)} and {generated} more")
    if dialect.id_names and [_id(name) for name in names[: len(prompt)]] != list(prompt):
        raise Malformed("the echoed tokens are not those that were sent")
    read = range(1, len(prompt))
    likeliest = tuple(values[i] >= max(tops[i].values()) for i in read)
    return Read(tuple(_nats(values[i]) for i in read), likeliest)


def _next(choice: Mapping[str, Any], prompt: Tokens) -> Next:
    del prompt
    told = choice["logprobs"]
    if len(told["tokens"]) != 1:
        raise Malformed(f"{len(told['tokens'])} generated tokens, wanted 1")
    chosen = _id(told["tokens"][0])
    id_to_nats = {_id(name): _nats(value) for name, value in (told["top_logprobs"][0] or {}).items()}
    id_to_nats[chosen] = _nats(told["token_logprobs"][0])
    return Next(id_to_nats, chosen)


def _answered(choice: Mapping[str, Any], prompt: Tokens) -> Answered:
    del prompt
    text = choice["text"]
    if not isinstance(text, str):
        raise Malformed("a choice has no text")
    return Answered(text, tuple(_nats(value) for value in choice["logprobs"]["token_logprobs"]))


def _id(name: str) -> int:
    match = _ID_NAME.fullmatch(name)
    if match is None:
        raise Malformed("a token is not named by its id")
    return int(match.group(1))


def _nats(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > _MOST:
        raise Malformed("a log-probability is none")
    return -math.inf if value <= _LEAST else float(value)
