"""A small real HTTP server that answers like an OpenAI-compatible endpoint, or as badly as told."""

import json
import threading
from collections import deque
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSION = 8


def vector_of(text: str, dimension: int = DIMENSION) -> list[float]:
    """A vector that depends on the text alone; not of length 1."""
    return [byte / 64 - 2.01 for byte in sha256(text.encode()).digest()[:dimension]]


class FakeEndpoint:
    """Serves ``/v1/embeddings`` until closed; scripted answers are given first, one per request."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.script: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.max_texts = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                endpoint.authorizations.append(self.headers.get("Authorization"))
                status, headers, payload = endpoint._answer(self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def then(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        """Answer the next unscripted request like this."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.script.append((status, headers or {}, payload))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if self.script:
            return self.script.popleft()
        if path != "/v1/embeddings":
            return 404, {}, b"{}"
        texts = body["input"]
        self.max_texts = max(self.max_texts, len(texts))
        if any(text == "" for text in texts):
            return 400, {}, b'{"error": {"code": "empty_input", "message": "empty"}}'
        dimension = body.get("dimensions", DIMENSION)
        data = [{"index": i, "embedding": vector_of(text, dimension)} for i, text in enumerate(texts)]
        # Reversed: the order is what `index` says.
        return 200, {}, json.dumps({"data": data[::-1]}).encode()
