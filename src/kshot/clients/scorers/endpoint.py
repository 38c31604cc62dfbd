"""Requests to a completion server: within limits, tried again where that may help, given up where not."""

import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Any

import httpx

from kshot.clients.scorers.backend import COMPLETIONS
from kshot.clients.scorers.breaker import CircuitBreaker
from kshot.clients.scorers.cache_blocks import DEFAULT_BLOCK_TOKENS, parse_block_tokens
from kshot.clients.scorers.limits import AdaptiveLimit
from kshot.clients.scorers.telemetry import UNTOLD, Telemetry
from kshot.errors import InvalidParameter

_RETRIES = 3
_RETRIED = frozenset({408, 429, 502, 503, 504})
_OVERLOADED = frozenset({408, 429, 503, 504})
_CONNECT_S = 5.0
_LONGEST_READ_S = 300.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 20.0
_FIRST_TOKENS_PER_S = 200.0
_WEIGHT_OF_LAST = 0.2
_LONGEST_STEP_S = 1.0


class NotAnswered(Exception):
    """The server cannot be reached or is overloaded, after all attempts."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Broke(Exception):
    """The server answers this request with 500, or with something that is no JSON."""


class Rejected(Exception):
    """The server does not accept this request; ``status`` says how."""

    def __init__(self, status: int, name: str = "") -> None:
        super().__init__(f"status {status}{name}")
        self.status = status
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is asked at once.

    Attributes
    ----------
    requests : int
        In flight at the same time.
    tokens : int
        Prompt tokens in flight, of requests for next tokens.
    read_tokens : int
        Prompt tokens in flight, of requests that read whole prompts; these take memory on the server.
    prompts_per_call : int
    longest_read : int
        Tokens of the longest prompt that is read as a whole.
    """

    requests: int = 32
    tokens: int = 65_536
    read_tokens: int = 16_384
    prompts_per_call: int = 64
    longest_read: int = 8_192

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "read_tokens", "prompts_per_call", "longest_read"):
            if getattr(self, name) < 1:
                raise InvalidParameter(f"{name} is {getattr(self, name)}, allowed >= 1")


class Endpoint:
    """One server.

    At most three further attempts, after pauses of random length around 0.25, 0.5 and 1 s or as long as the
    server asks for. Prompts and the key appear in no error, log or ``repr``.

    Lifetime: belongs to the event loop that uses it.

    Parameters
    ----------
    base_url : str
        ``http`` or ``https``, with or without ``/v1``.
    api_key : str or None
        Sent as a bearer token.
    limits : Limits
    shortest_read_s : float
        An answer may take this long and three times what its tokens take at the rate seen so far.
    transport : httpx.AsyncBaseTransport or None
    sleep, clock, rng
        Waiting, monotonic seconds, and the randomness of pauses.
    extras : mapping
        Further fields of every completion request.
    telemetry : Telemetry
    """

    kind = "vllm-http"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        limits: Limits,
        shortest_read_s: float,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        rng: random.Random,
        extras: Mapping[str, Any] = MappingProxyType({}),
        telemetry: Telemetry = UNTOLD,
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {_checked_key(api_key)}"}
        pool = httpx.Limits(max_connections=None, max_keepalive_connections=limits.requests)
        self._client = httpx.AsyncClient(
            base_url=_root(base_url), headers=headers, transport=transport, limits=pool
        )
        self._requests = AdaptiveLimit(limits.requests)
        self._tokens = AdaptiveLimit(limits.tokens, least=min(limits.tokens, 1024))
        self._read_tokens = AdaptiveLimit(limits.read_tokens, least=min(limits.read_tokens, 1024))
        self._breaker = CircuitBreaker(clock)
        self._shortest_read_s = shortest_read_s
        self._sleep = sleep
        self._clock = clock
        self._rng = rng
        self._extras = extras
        self._telemetry = telemetry
        self._tokens_per_s = _FIRST_TOKENS_PER_S
        self.disconnections = 0
        """Connections that failed or broke: what answers afterwards may be another server."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._client.base_url)!r})"

    @property
    def request_bound(self) -> float:
        """How many requests may be in flight at present."""
        return self._requests.bound

    async def get(self, path: str) -> Any:
        """Return the JSON of a ``GET``; see `post`."""
        return await self._answer("GET", path, None, _Load(), divisible=False)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        tokens: int = 0,
        reads: bool = False,
        divisible: bool = False,
        generated: int = 0,
    ) -> Any:
        """Return the JSON of the answer to a ``POST``.

        Parameters
        ----------
        tokens : int
            Prompt tokens that the server has to compute.
        reads : bool
            Whether they count against ``Limits.read_tokens``.
        generated : int
            Tokens that it then generates, one after the other.
        divisible : bool
            The caller will ask for parts of it after a 500, which is therefore not tried again.

        Raises
        ------
        NotAnswered
            No answer after all attempts.
        Broke
            Status 500 or no JSON, after all attempts where it is not divisible.
        Rejected
            Any other refusal.
        ScorerUnavailable
            The server has not answered for a while, and is not asked.
        """
        load = _Load(tokens, reads=reads, generated=generated)
        extras = self._extras if path == COMPLETIONS else {}
        try:
            return await self._answer("POST", path, {**body, **extras}, load, divisible=divisible)
        except Rejected as error:
            if not extras:
                raise
            # Which of them a server takes depends on how it was started.
            raise Rejected(error.status, f"{error.name}, asked with {', '.join(extras)}") from error

    async def cache_block_tokens(self) -> int | None:
        """Return what ``/metrics`` says of the prefix cache; `DEFAULT_BLOCK_TOKENS` where nothing is said."""
        try:
            response = await self._attempt("GET", "/metrics", None, _Load())
        except NotAnswered:
            return DEFAULT_BLOCK_TOKENS
        return parse_block_tokens(response.text) if response.is_success else DEFAULT_BLOCK_TOKENS

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None, load: "_Load", *, divisible: bool
    ) -> Any:
        for attempt in range(_RETRIES + 1):
            self._breaker.check()
            pause_s = _FIRST_PAUSE_S * 2**attempt * self._rng.uniform(0.5, 1.5)
            try:
                answer = _json(await self._attempt(method, path, body, load))
            except Rejected:
                # It answers, and knows what it wants.
                self._breaker.succeeded()
                raise
            except Broke:
                if divisible:
                    raise
                if attempt == _RETRIES:
                    self._breaker.failed()
                    raise
            except NotAnswered as error:
                if attempt == _RETRIES:
                    self._breaker.failed()
                    raise
                pause_s = max(pause_s, error.pause_s)
            else:
                self._breaker.succeeded()
                return answer
            await self._sleep(min(pause_s, _LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    async def _attempt(
        self, method: str, path: str, body: Mapping[str, Any] | None, load: "_Load"
    ) -> httpx.Response:
        held = self._read_tokens if load.reads else self._tokens
        async with AsyncExitStack() as room:
            limits = [self._requests]
            if load.tokens:
                limits.append(held)
                await room.enter_async_context(held.hold(load.tokens))
            await room.enter_async_context(self._requests.hold())
            started_s = self._clock()
            timeout = httpx.Timeout(self._longest_s(load), connect=_CONNECT_S, pool=None)
            try:
                response = await self._client.request(method, path, json=body, timeout=timeout)
            except httpx.TimeoutException as error:
                self._telemetry.requested("lost", load.tokens)
                _tell(limits, overloaded=True)
                raise NotAnswered(type(error).__name__) from error
            except httpx.TransportError as error:
                self.disconnections += 1
                self._telemetry.requested("lost", load.tokens)
                raise NotAnswered(type(error).__name__) from error
            self._telemetry.requested(_outcome(response.status_code), load.tokens)
            if response.is_success or response.status_code in _OVERLOADED:
                _tell(limits, overloaded=not response.is_success)
            if response.is_success and load.tokens and not load.generated:
                self._measure(load, self._clock() - started_s)
            return response

    def _longest_s(self, load: "_Load") -> float:
        """Say how long an answer may take: what is in flight is computed together."""
        computed = self._tokens.in_flight + self._read_tokens.in_flight
        needed_s = 3 * computed / self._tokens_per_s + _LONGEST_STEP_S * load.generated
        return min(_LONGEST_READ_S, self._shortest_read_s + needed_s)

    def _measure(self, load: "_Load", took_s: float) -> None:
        seen = load.tokens / max(took_s, 1e-3)
        # What a prefix cache saves must not pass for speed.
        if load.reads or seen < self._tokens_per_s:
            self._tokens_per_s += _WEIGHT_OF_LAST * (seen - self._tokens_per_s)


@dataclass(frozen=True, slots=True)
class _Load:
    tokens: int = 0
    _: KW_ONLY
    reads: bool = False
    generated: int = 0


def _outcome(status: int) -> str:
    if status in _OVERLOADED:
        return "overloaded"
    if status >= 500:
        return "broken"
    return "refused" if status >= 400 else "ok"


def _json(response: httpx.Response) -> Any:
    status = response.status_code
    if status == 500:
        raise Broke("status 500")
    if status in _RETRIED:
        raise NotAnswered(f"status {status}", _retry_after_s(response))
    if not response.is_success:
        raise Rejected(status, _named(response))
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        raise Broke("the answer is no JSON") from None


def _tell(limits: list[AdaptiveLimit], *, overloaded: bool) -> None:
    for limit in limits:
        if overloaded:
            limit.overloaded()
        else:
            limit.succeeded()


def _root(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidParameter(f"base_url is no URL: {error}") from error
    extras = url.userinfo or url.query or url.fragment
    if url.scheme not in {"http", "https"} or not url.host or extras:
        raise InvalidParameter("base_url must be an http or https URL of host, port and path only")
    return base_url.rstrip("/").removesuffix("/v1")


def _checked_key(api_key: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", api_key):
        raise InvalidParameter("api_key must be printable ASCII without spaces")
    return api_key


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"\d{1,9}", value) else 0.0


def _named(response: httpx.Response) -> str:
    """Name the server's kind of error; its message stays out, as it may quote the prompts or the key."""
    try:
        kind = response.json()["error"]["type"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f" ({kind})" if isinstance(kind, str) and re.fullmatch(r"[A-Za-z_]{1,50}", kind) else ""
