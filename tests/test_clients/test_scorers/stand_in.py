"""A virtual environment whose ``python`` stands in for vLLM's server; the model's name says how.

``good`` answers after a second, ``other`` serves a model of another name, ``locked`` wants a key,
``dying`` prints lines and ends, ``mute`` listens to nobody, ``stubborn`` ignores SIGTERM and has a child.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def make_environment(folder: Path) -> Path:
    package = folder / "lib" / "python3.11" / "site-packages" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    script = folder / "bin" / "python"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P "{Path(__file__)}" "$@"\n')
    script.chmod(0o755)
    return folder


def _serve(model: str, name: str, port: int) -> None:
    ready = time.monotonic() + 1.2

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/health":
                self._answer(200 if time.monotonic() > ready else 503, {})
            elif model == "locked":
                self._answer(401, {"error": "Unauthorized"})
            else:
                self._answer(200, {"data": [{"id": "another" if model == "other" else name}]})

        def _answer(self, status, body):
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    assert options.pop("-m") == "vllm.entrypoints.openai.api_server"
    model, name = options["--model"], options["--served-model-name"]
    sys.stdout.write(f"loading {' '.join(sys.argv[1:])}\n")
    sys.stdout.flush()
    if model == "dying":
        for number in range(100):
            sys.stdout.write(f"line {number}\n")
        sys.exit(3)
    if model == "mute":
        time.sleep(60)
    if model == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "60"])
        Path(os.environ["STAND_IN_CHILD"]).write_text(str(child.pid))
    _serve(model, name, int(options["--port"]))


if __name__ == "__main__":
    main()
