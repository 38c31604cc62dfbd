"""From requests in the words of vLLM's HTTP interface to arguments of its engine, and back: pure functions.

An engine in this process gives log-probabilities in one of two shapes: objects with ``logprob`` and ``rank``,
or bare floats.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_SAME = ("n", "temperature", "seed", "max_tokens", "prompt_logprobs", "skip_special_tokens", "stop")


def sampling_arguments(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``SamplingParams`` for a request to ``/v1/completions``.

    Raises
    ------
    ValueError
        It asks for what only a server does.
    """
    if "echo" in body:
        raise ValueError("an engine does not echo; it has prompt_logprobs")
    arguments = {name: body[name] for name in _SAME if name in body}
    # Special tokens are left out of texts that are wanted, those of answers; scores need no text.
    arguments["detokenize"] = bool(body["skip_special_tokens"])
    if "allowed_token_ids" in body:
        arguments["allowed_token_ids"] = list(body["allowed_token_ids"])
    if "logprob_token_ids" in body:
        # An engine wants `logprobs` to be their number, or not there; a server takes any.
        arguments["logprob_token_ids"] = list(body["logprob_token_ids"])
    elif "logprobs" in body:
        arguments["logprobs"] = body["logprobs"]
    return arguments


def is_bare(output: Any) -> bool:
    """Say whether log-probabilities of a prompt are bare floats, so that ranks have to be worked out."""
    entries = (entry for entry in output.prompt_logprobs or () if entry)
    return any(isinstance(value, int | float) for entry in entries for value in entry.values())


def choice(index: int, output: Any) -> dict[str, Any]:
    """Return what a server would say of one prompt, out of what the engine does."""
    answer = output.outputs[0]
    told = output.prompt_logprobs
    return {
        "index": index,
        "text": answer.text,
        "prompt_logprobs": None if told is None else [_position(entry) for entry in told],
        "logprobs": None if answer.logprobs is None else _generated(answer.token_ids, answer.logprobs),
    }


def _position(entry: Mapping[int, Any] | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    highest = max(map(nats, entry.values()), default=-math.inf)
    return {
        str(token): {"logprob": nats(said), "rank": getattr(said, "rank", 1 if nats(said) >= highest else 2)}
        for token, said in entry.items()
    }


def _generated(tokens: Sequence[int], entries: Sequence[Mapping[int, Any]]) -> dict[str, Any]:
    return {
        "tokens": [_name(token) for token in tokens],
        "token_logprobs": [nats(entry[token]) for token, entry in zip(tokens, entries, strict=True)],
        "top_logprobs": [{_name(token): nats(said) for token, said in entry.items()} for entry in entries],
    }


def nats(said: Any) -> float:
    """Return a log-probability, whichever shape it is in."""
    return float(getattr(said, "logprob", said))


def _name(token: int) -> str:
    return f"token_id:{token}"
