"""Likelihoods from a vLLM server, over its OpenAI-compatible HTTP interface."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from kshot.clients.scorers.assessment import Sanity
from kshot.clients.scorers.completion_scorer import CompletionScorer
from kshot.clients.scorers.endpoint import Endpoint, Limits
from kshot.clients.scorers.telemetry import UNTOLD, Telemetry
from kshot.clients.scorers.tokenization import LocalTokenizer
from kshot.errors import InvalidParameter

_SANITY = Sanity()
_LIMITS = Limits()


class VllmHttpScorer(CompletionScorer):
    """A `CompletionScorer` over one server, which is lost with every broken connection.

    Key and salt appear in no error, log or ``repr``.

    Parameters
    ----------
    base_url : str
        ``http`` or ``https``, with or without ``/v1``.
    model : str or None
        As served; None for the first one.
    api_key : str or None
        Sent as a bearer token.
    tokenizer : LocalTokenizer or None
        The model's own, in this process. None takes the one beside the served model, where its folder is on
        this machine, and else asks the server for every text. What differs from the server's is not used.
    end : str or None
        The marker that ends an answer (``terminator="eot"``); None looks for a known one.
    sanity : Sanity
        A context with a good and a bad completion, in the model's language.
    tolerance_nats : float
        By how much equal requests may differ per token, on average.
    max_model_tokens : int or None
        Where the server does not say it, or to stay below.
    audit_share : float
        Of the scores, that are computed again in another mode, in the background.
    limits : Limits
    shortest_read_s : float
        The shortest time that an answer is waited for.
    cache_salt : str or None
        Keeps what the server's prefix cache holds of these prompts from requests with another salt or none.
    priority : int or None
        Of the requests; lower ones go first, 0 is the server's default. The server has to be started with
        ``--scheduling-policy priority``.
    telemetry : Telemetry
    transport, sleep, clock, rng
        Connections, waiting, monotonic seconds and randomness, for tests.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        tokenizer: LocalTokenizer | None = None,
        end: str | None = None,
        sanity: Sanity = _SANITY,
        tolerance_nats: float = 0.05,
        max_model_tokens: int | None = None,
        audit_share: float = 0.01,
        limits: Limits = _LIMITS,
        shortest_read_s: float = 10.0,
        cache_salt: str | None = None,
        priority: int | None = None,
        telemetry: Telemetry = UNTOLD,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()
        self._endpoint = Endpoint(
            base_url,
            api_key=api_key,
            limits=limits,
            shortest_read_s=shortest_read_s,
            transport=transport,
            sleep=sleep,
            clock=clock,
            rng=rng,
            extras=_extras(cache_salt, priority),
            telemetry=telemetry,
        )
        super().__init__(
            self._endpoint,
            model,
            tokenizer=tokenizer,
            end=end,
            sanity=sanity,
            tolerance_nats=tolerance_nats,
            max_model_tokens=max_model_tokens,
            audit_share=audit_share,
            limits=limits,
            clock=clock,
            rng=rng,
            telemetry=telemetry,
        )


def _extras(cache_salt: str | None, priority: int | None) -> dict[str, Any]:
    if cache_salt == "":
        raise InvalidParameter("cache_salt is empty")
    return {
        name: value
        for name, value in (("cache_salt", cache_salt), ("priority", priority))
        if value is not None
    }
