"""Find out what a server understands (C8), before anything is concluded from what it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kshot.clients.scorers import wire
from kshot.clients.scorers.backend import COMPLETIONS, RENDER, Backend
from kshot.clients.scorers.base import Canary, Tokens
from kshot.clients.scorers.endpoint import Broke, Rejected
from kshot.errors import ScorerUnavailable

MANY_LOGPROBS = 21
"""One more than a server allows unless told otherwise."""
_ANSWERS = (TypeError, KeyError, IndexError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Which model a server has, as ``/v1/models`` says it.

    Attributes
    ----------
    kind : str
        Of the server, as in `Capabilities.backend`.
    name : str
    root : str
        Where it was loaded from.
    max_model_tokens : int or None
    """

    kind: str
    name: str
    root: str
    max_model_tokens: int | None


async def served_model(backend: Backend, wanted: str | None) -> ServedModel:
    """Return the model of that name; the first one if no name is given.

    Raises
    ------
    ScorerUnavailable
        There is none, or the server lists none.
    """
    try:
        cards = (await backend.get("/v1/models"))["data"]
        found = next((card for card in cards if wanted in {None, card["id"]}), None)
        if found is None:
            names = ", ".join(str(card["id"])[:100] for card in cards) or "none"
            raise ScorerUnavailable(f"the scorer has no model {wanted!r}; it has: {names}")
        longest = found.get("max_model_len")
        return ServedModel(
            kind=backend.kind,
            name=str(found["id"]),
            root=str(found.get("root") or found["id"]),
            max_model_tokens=longest if isinstance(longest, int) else None,
        )
    except Rejected as error:
        raise ScorerUnavailable(f"the scorer does not list its models: {error}") from error
    except _ANSWERS as error:
        raise ScorerUnavailable("the scorer lists its models in no known form") from error


async def probe_dialect(backend: Backend, model: str, ids: Tokens) -> tuple[wire.Dialect, Canary]:
    """Ask for every form once; ``ids`` are at least five different tokens of the model's.

    A form counts as understood if its answer has the part that was asked for; whether the numbers are right
    is for the other canaries.
    """
    prompt = ids[:4]
    prompts = [prompt]

    async def choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = await backend.post(COMPLETIONS, body, tokens=len(prompt), divisible=True)
            found: Mapping[str, Any] = answer["choices"][0]
        except (Broke, Rejected, *_ANSWERS):
            return {}
        return found

    full = wire.Dialect(prompt_form=True)
    by_prompt = await choice(wire.reading_request(model, prompts, full))
    echoed = await choice(wire.reading_request(model, prompts, wire.Dialect(prompt_form=False)))
    without = await choice(
        wire.reading_request(model, prompts, wire.Dialect(prompt_form=False, no_tokens=True))
    )
    labels = ids[1:5]
    labelled = await choice(wire.label_request(model, prompts, labels))
    forced = await choice(wire.forced_request(model, prompts, labels[0]))
    many = await choice(wire.top_request(model, prompts, MANY_LOGPROBS))
    dialect = wire.Dialect(
        prompt_form=by_prompt.get("prompt_logprobs") is not None,
        echo_form=_length(echoed) > 1,
        no_tokens=_length(without) == len(prompt),
        id_names=bool(_named_ids(forced)) or bool(_named_ids(labelled)),
        label_form=set(labels) <= _named_ids(labelled),
        forced_form=labels[0] in _named_ids(forced),
    )
    lacking = [
        name
        for name, there in (
            ("prompt_logprobs", dialect.prompt_form),
            ("echo", dialect.echo_form or dialect.prompt_form),
            ("logprob_token_ids", dialect.label_form),
            ("allowed_token_ids", dialect.forced_form),
            ("return_tokens_as_token_ids", dialect.id_names),
        )
        if not there
    ]
    optional = [
        ("max_tokens 0", dialect.no_tokens),
        (f"{MANY_LOGPROBS} logprobs", _length(many) == 1),
        ("render offsets", await _renders_offsets(backend, model)),
    ]
    extras = "; ".join(f"{name}: {'yes' if there else 'no'}" for name, there in optional)
    detail = f"lacks {', '.join(lacking)}; {extras}" if lacking else extras
    return dialect, Canary(name="C8", passed=not lacking, detail=detail)


async def _renders_offsets(backend: Backend, model: str) -> bool:
    """Say whether the server tells where in a text each token stands; shown, and not needed."""
    body = {"model": model, "prompt": "a", "return_token_offsets": True}
    try:
        return bool((await backend.post(RENDER, body))[0]["token_offsets"])
    except (Broke, Rejected, *_ANSWERS):
        return False


def _length(choice: Mapping[str, Any]) -> int:
    try:
        return len(choice["logprobs"]["token_logprobs"])
    except _ANSWERS:
        return 0


def _named_ids(choice: Mapping[str, Any]) -> set[int]:
    try:
        names = {*choice["logprobs"]["tokens"], *choice["logprobs"]["top_logprobs"][0]}
        return {int(name.removeprefix("token_id:")) for name in names if name.startswith("token_id:")}
    except _ANSWERS:
        return set()
