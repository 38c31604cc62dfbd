"""Sentence vectors from an OpenAI-compatible ``/embeddings`` endpoint: OpenAI, vLLM, TEI, Ollama, ..."""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np

from kshot.arrays import Float32s, unit_rows
from kshot.clients.embedders.base import TextFeatures, check_texts, check_token_layer
from kshot.errors import EmbedderUnavailable, InvalidInput, InvalidParameter, InvalidShape

MAX_CHARACTERS = 24_000
"""Characters sent of one text; what follows is cut and flagged."""
_BATCH_SIZE = 32
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 20.0
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_CALLERS_FAULT = frozenset({400, 413, 422})


class OpenAiCompatibleEmbedder:
    """Embeds by HTTP; has no token vectors.

    Threads may share it: connections are pooled. Calls block; nothing is cached. Texts and the key appear in
    no error, log or ``repr``.

    Parameters
    ----------
    base_url : str
        ``http`` or ``https``, up to but without ``/embeddings``, such as ``https://api.openai.com/v1``.
    model : str
        Name that the endpoint knows.
    dimensions : int or None
        Dimension to ask for; None for the model's own, learned from the first answer.
    api_key : str or None
        Sent as a bearer token.
    timeout_s : float
        For connecting and for each answer.
    batch_size : int
        Texts per request, >= 1. The default suits servers with small limits.
    sleep : callable
        Called with the seconds to wait before a retry.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        dimensions: int | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        batch_size: int = _BATCH_SIZE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise InvalidParameter(f"base_url is no URL: {error}") from error
        extras = url.userinfo or url.query or url.fragment
        if url.scheme not in {"http", "https"} or not url.host or extras or (url.port or 0) > 65535:
            raise InvalidParameter("base_url must be an http or https URL of host, port and path only")
        if api_key is not None and not re.fullmatch(r"[\x21-\x7e]+", api_key):
            raise InvalidParameter("api_key must be printable ASCII without spaces")
        if batch_size < 1:
            raise InvalidParameter(f"batch_size is {batch_size}, allowed >= 1")
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._client = httpx.Client(headers=headers, timeout=timeout_s)
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._requested = dimensions
        self._dimension = dimensions
        self._batch_size = batch_size
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, {self._model!r})"

    @property
    def fingerprint(self) -> str:
        """Model and dimension asked for; not the URL, as the same model may move to another host."""
        return f"openai:{self._model}/{self._requested or 'native'}"

    @property
    def dimension(self) -> int | None:
        """As asked for or as first answered; None before either."""
        return self._dimension

    @property
    def token_layers(self) -> None:
        """None: the endpoint gives sentence vectors only."""
        return

    @property
    def default_token_layer(self) -> None:
        """None: the endpoint gives sentence vectors only."""
        return

    def encode(self, texts: Sequence[str], *, token_layer: int | None, spans: bool = False) -> TextFeatures:
        """Return the sentence vectors of ``texts``; see `Embedder.encode`.

        An empty text is sent as one space, as endpoints refuse empty input.

        Raises
        ------
        EmbedderUnavailable
            No valid answer after 4 attempts. Answers 408, 409, 425, 429, 500, 502, 503 and 504, timeouts and
            connection errors are tried again, after ``Retry-After`` where the endpoint names it, else after
            0.5, 1 and 2 s. A refused key, an unknown path and a malformed answer are not tried again.
        InvalidInput
            The endpoint refuses the texts (400, 413, 422).
        InvalidParameter
            A ``token_layer`` is given.
        """
        del spans
        check_texts(texts)
        check_token_layer(token_layer, self.token_layers)
        sent = [text[:MAX_CHARACTERS] or " " for text in texts]
        parts = [self._vectors(sent[i : i + self._batch_size]) for i in range(0, len(sent), self._batch_size)]
        vectors = np.concatenate(parts) if parts else np.empty((0, self._dimension or 0), dtype=np.float32)
        return TextFeatures(vectors, np.array([len(text) > MAX_CHARACTERS for text in texts], dtype=np.bool_))

    def encode_layers(self, texts: Sequence[str], layers: Sequence[int]) -> list[TextFeatures]:
        """Refuse every layer; see `Embedder.encode_layers`."""
        return [self.encode(texts, token_layer=layer) for layer in layers]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _vectors(self, texts: list[str]) -> Float32s:
        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._requested is not None:
            body["dimensions"] = self._requested
        response = self._post(body)
        try:
            vectors = unit_rows(_rows_in_order(response.json(), len(texts)))
        except InvalidShape as error:
            raise EmbedderUnavailable(f"{self._url} gave a malformed answer: {error}") from error
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            # Without the message, which may quote the answer.
            raise EmbedderUnavailable(
                f"{self._url} gave a malformed answer: {type(error).__name__}"
            ) from None
        wanted = self._dimension or max(vectors.shape[1], 1)
        if vectors.shape[1] != wanted:
            raise EmbedderUnavailable(f"{self._url} gave {vectors.shape[1]} dimensions, wanted {wanted}")
        self._dimension = wanted
        return vectors

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        reason = ""
        for attempt in range(_ATTEMPTS):
            wait_s = _FIRST_WAIT_S * 2**attempt
            try:
                response = self._client.post(self._url, json=body)
            except httpx.RequestError as error:
                reason = type(error).__name__
            else:
                if response.is_success:
                    return response
                reason = f"status {response.status_code}"
                if response.status_code in _CALLERS_FAULT:
                    raise InvalidInput(f"{self._url} refuses the input: {reason}{_named(response)}")
                if response.status_code not in _RETRIED:
                    raise EmbedderUnavailable(f"{self._url} refuses: {reason}{_named(response)}")
                wait_s = _retry_after_s(response) or wait_s
            if attempt + 1 < _ATTEMPTS:
                self._sleep(min(wait_s, _LONGEST_WAIT_S))
        raise EmbedderUnavailable(f"{self._url} does not answer after {_ATTEMPTS} attempts: {reason}")


def _rows_in_order(answer: Any, n: int) -> list[Any]:
    items = answer["data"]
    index_to_row = {item["index"]: item["embedding"] for item in items}
    if len(items) != n or set(index_to_row) != set(range(n)):
        raise InvalidShape(f"{len(items)} embeddings at {len(index_to_row)} indices, wanted {n}")
    return [index_to_row[i] for i in range(n)]


def _named(response: httpx.Response) -> str:
    """Name the endpoint's error code; its message stays out, as it may quote the texts or the key."""
    try:
        code = response.json()["error"]["code"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f" ({code})" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,50}", code) else ""


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
