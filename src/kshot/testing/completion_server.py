"""A completion server like vLLM's, in process or on a port, whose answers can be worked out by hand."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kshot.testing.bigram import BigramModel
from kshot.testing.completion_wire import Answerer, Refused, Request, as_json, parse_request
from kshot.testing.faults import Faults
from kshot.testing.prefix_cache import BLOCK_TOKENS, PrefixCache
from kshot.testing.toy_tokenizer import VOCABULARY_SIZE, ToyTokenizer

_MAX_PROMPTS = 1024
_START_S = 20.0


@dataclass(slots=True)
class Ledger:
    """What a server has done since it was built or its ledger was replaced.

    Attributes
    ----------
    requests : int
        Completion requests that were answered with 200.
    prefilled_tokens : int
        Prompt tokens computed.
    prompts : list of (int, int)
        Tokens and, of these, cached tokens of every prompt, in the order of arrival.
    bodies : list of dict
        Every completion request as it came, also those refused.
    authorizations : list
        The header of each of them.
    """

    requests: int = 0
    prefilled_tokens: int = 0
    prompts: list[tuple[int, int]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)


class ToyCompletionServer:
    """Serves ``/v1/completions``, ``/v1/models``, ``/tokenize``, ``/detokenize``, ``/health``, ``/metrics``.

    Parameters
    ----------
    model : BigramModel or None
        None: ``BigramModel()``.
    tokenizer : ToyTokenizer or None
        None: ``ToyTokenizer()``.
    name : str
        The served model's.
    max_model_tokens : int
        Prompt and generated tokens together.
    prefix_caching : bool
        Requests with another ``cache_salt`` share nothing.
    priorities : bool
        Whether requests may have a ``priority`` other than 0.
    block_tokens : int
        Of the prefix cache.

    Attributes
    ----------
    faults : Faults
        Switches; may be turned at any time.
    ledger : Ledger
    created : int
        When the model was loaded; a restart changes it.

    Examples
    --------
    >>> import httpx
    >>> server = ToyCompletionServer()
    >>> client = httpx.AsyncClient(transport=server.transport(), base_url="http://toy")
    """

    def __init__(
        self,
        model: BigramModel | None = None,
        tokenizer: ToyTokenizer | None = None,
        *,
        name: str = "toy",
        max_model_tokens: int = 2048,
        prefix_caching: bool = True,
        priorities: bool = False,
        block_tokens: int = BLOCK_TOKENS,
    ) -> None:
        self.model = model or BigramModel()
        self.tokenizer = tokenizer or ToyTokenizer()
        self.name = name
        self.max_model_tokens = max_model_tokens
        self.faults = Faults()
        self.ledger = Ledger()
        self.created = 1
        self._cache = PrefixCache(block_tokens) if prefix_caching else None
        self._block_tokens = block_tokens
        self._salt_to_cache: dict[str, PrefixCache] = {}
        self._priorities = priorities
        self._seen: set[tuple[int, ...]] = set()
        self.app = Starlette(
            routes=[
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/completions/render", self._render, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/detokenize", self._detokenize, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ]
        )

    def restart(self, model: BigramModel | None = None, *, name: str | None = None) -> None:
        """Forget the prefix cache; serve another model, or the same one under another name."""
        self.model = model or self.model
        self.name = name or self.name
        self.created += 1
        if self._cache is not None:
            self._cache.clear()
        self._salt_to_cache.clear()
        self._seen.clear()

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that reaches the server without a port, and heeds `Faults.down`."""
        return _Line(self)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free port of the loopback interface; gives the base URL."""
        import uvicorn  # noqa: PLC0415  only here

        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="kshot-toy-server", daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the toy server did not start")
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

    async def _completions(self, http: HttpRequest) -> Response:
        body = await http.json()
        self.ledger.bodies.append(body)
        self.ledger.authorizations.append(http.headers.get("Authorization"))
        if self.faults.delay_s:
            await asyncio.sleep(self.faults.delay_s)
        status = self.faults.next_status()
        if status is not None:
            return _error(status, "told to fail")
        if body.get("model") not in {None, self.name}:
            return _error(404, "The model does not exist.")
        problem = self._problem(body)
        if problem is not None:
            return _error(400, problem)
        try:
            request = parse_request(body, self.tokenizer, self.faults, self.max_model_tokens)
        except Refused as refusal:
            return _error(400, str(refusal))
        if any(self.faults.poison_token in prompt for prompt in request.prompts):
            return _error(500, "Out of range float values are not JSON compliant: nan")
        await self._prefill(request, self._cache_of(body.get("cache_salt")))
        answer = self._answer(request)
        cut = self.faults.truncated_json > 0
        self.faults.truncated_json -= cut
        return Response(as_json(answer, cut=cut), media_type="application/json")

    def _problem(self, body: Mapping[str, Any]) -> str | None:
        prompts = body.get("prompt")
        if isinstance(prompts, list) and len(prompts) > _MAX_PROMPTS and not isinstance(prompts[0], int):
            return "too many prompts"
        if body.get("priority") and not self._priorities:
            return "priority scheduling is not enabled"
        return None

    def _cache_of(self, salt: str | None) -> PrefixCache | None:
        if self._cache is None or salt is None:
            return self._cache
        return self._salt_to_cache.setdefault(salt, PrefixCache(self._cache.block_tokens))

    async def _prefill(self, request: Request, cache: PrefixCache | None) -> None:
        """Count what has to be computed: prompts that are under way at the same time share nothing."""
        for prompt in request.prompts:
            cached = 0 if cache is None or request.reads_prompts else cache.cached_tokens(prompt)
            self.ledger.prefilled_tokens += len(prompt) - cached
            self.ledger.prompts.append((len(prompt), cached))
        self.ledger.requests += 1
        for _ in range(3):
            await asyncio.sleep(0)
        if cache is not None:
            for prompt in request.prompts:
                cache.store(prompt)

    def _answer(self, request: Request) -> dict[str, Any]:
        answerer = Answerer(self.model, self.tokenizer, request, self.faults)
        choices = [
            answerer.choice(i, repeated=prompt in self._seen) for i, prompt in enumerate(request.prompts)
        ]
        self._seen.update(request.prompts)
        tokens = sum(map(len, request.prompts))
        return {
            "id": f"cmpl-{self.ledger.requests}",
            "object": "text_completion",
            "created": self.created,
            "model": self.name,
            "choices": choices[::-1] if self.faults.shuffled_choices else choices,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }

    async def _render(self, http: HttpRequest) -> Response:
        if self.faults.no_render:
            return _error(404, "Not Found")
        body = await http.json()
        ids = self.tokenizer.encode(body["prompt"], add_special_tokens=body.get("add_special_tokens", True))
        ends = [len(self.tokenizer.decode(ids[:i])) for i in range(len(ids) + 1)]
        offsets = [list(pair) for pair in pairwise(ends)] if body.get("return_token_offsets") else None
        return JSONResponse([{"token_ids": ids, "token_offsets": offsets}])

    async def _models(self, http: HttpRequest) -> Response:
        del http
        card = {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "root": self.name,
            "max_model_len": self.max_model_tokens,
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def _tokenize(self, http: HttpRequest) -> Response:
        if self.faults.no_tokenizer:
            return _error(404, "Not Found")
        body = await http.json()
        if "messages" in body:
            roles = [message["role"] for message in body["messages"]]
            if self.faults.no_chat_template or not {"system", "user", "assistant"} >= set(roles):
                return _error(400, "the template takes no such messages")
            ids = self.tokenizer.encode_chat(body["messages"], body.get("chat_template_kwargs") or {})
        else:
            with_special = body.get("add_special_tokens", True)
            ids = self.tokenizer.encode(body["prompt"], add_special_tokens=with_special)
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": self.max_model_tokens})

    async def _detokenize(self, http: HttpRequest) -> Response:
        if self.faults.no_tokenizer:
            return _error(404, "Not Found")
        body = await http.json()
        if not all(0 <= token < VOCABULARY_SIZE for token in body["tokens"]):
            return _error(400, "a token id is out of vocabulary")
        return JSONResponse({"prompt": self.tokenizer.decode(body["tokens"])})

    async def _health(self, http: HttpRequest) -> Response:
        del http
        return Response()

    async def _metrics(self, http: HttpRequest) -> Response:
        del http
        labels = f'block_size="{self._block_tokens}",enable_prefix_caching="{self._cache is not None}"'
        return Response(f"vllm:cache_config_info{{{labels}}} 1.0\n", media_type="text/plain")


class _Line(httpx.ASGITransport):
    def __init__(self, server: ToyCompletionServer) -> None:
        super().__init__(app=server.app)
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._server.faults.down:
            raise httpx.ConnectError("connection refused", request=request)
        return await super().handle_async_request(request)


def _error(status: int, message: str) -> Response:
    return JSONResponse(
        {"error": {"message": message, "type": "Error", "param": None, "code": status}}, status_code=status
    )
