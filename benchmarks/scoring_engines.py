"""What `scoring.py` compares: kshot's requests on record, the same by a bare client, vLLM without HTTP."""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from kshot.clients.scorers.launcher import VllmServer, VllmSettings, server_environment

PATH = "/v1/completions"
_COMPUTED = re.compile(
    r'^vllm:prompt_tokens_by_source_total\{.*source="local_compute".*\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True)
class Recorded:
    """One request: its body, and which earlier ones were answered when it was sent."""

    body: bytes
    after: frozenset[int]


@dataclass
class Recorder(httpx.AsyncBaseTransport):
    """Sends requests on and notes those for completions."""

    requests: list[Recorded] = field(default_factory=list)
    others: int = 0
    _answered: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._inner = httpx.AsyncHTTPTransport(limits=limits)

    def start_over(self) -> None:
        """Forget what was noted."""
        self.requests.clear()
        self._answered.clear()
        self.others = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send and note."""
        if request.url.path != PATH:
            self.others += 1
            return await self._inner.handle_async_request(request)
        number = len(self.requests)
        self.requests.append(Recorded(await request.aread(), frozenset(self._answered)))
        response = await self._inner.handle_async_request(request)
        await response.aread()
        self._answered.add(number)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


async def replay(client: httpx.AsyncClient, requests: Sequence[Recorded]) -> float:
    """Send the same bodies, each when those that it waited for are answered; return the seconds."""
    answered = [asyncio.Event() for _ in requests]

    async def send(number: int) -> None:
        for other in requests[number].after:
            await answered[other].wait()
        response = await client.post(
            PATH, content=requests[number].body, headers={"Content-Type": "application/json"}, timeout=600
        )
        json.loads(response.raise_for_status().content)
        answered[number].set()

    started = time.perf_counter()
    await asyncio.gather(*map(send, range(len(requests))))
    return time.perf_counter() - started


def prompts_of(requests: Sequence[Recorded]) -> list[list[int]]:
    """Return the token ids of all prompts that were sent."""
    return [prompt for one in requests for prompt in json.loads(one.body)["prompt"]]


class Served:
    """A vLLM server, its counters and its prefix cache."""

    def __init__(self, settings: VllmSettings, environment: Path) -> None:
        # Lets `reset` empty the prefix cache; a server for others does not have this.
        os.environ["VLLM_SERVER_DEV_MODE"] = "1"
        self._server = VllmServer(settings, environment=environment)
        self.client: httpx.AsyncClient

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._server.start)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self.client = httpx.AsyncClient(base_url=self.url, limits=limits, timeout=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await asyncio.to_thread(self._server.stop)

    async def reset(self) -> None:
        """Empty the prefix cache."""
        (await self.client.post("/reset_prefix_cache")).raise_for_status()

    async def computed_tokens(self) -> int:
        """Return how many prompt tokens it has computed, those from its cache left out."""
        text = (await self.client.get("/metrics")).text
        return round(sum(float(value) for value in _COMPUTED.findall(text)))


class Offline:
    """`LLM.generate` in the server's environment, without HTTP."""

    def __init__(self, settings: VllmSettings, environment: Path, arguments: dict[str, Any]) -> None:
        script = Path(__file__).parent / "peers" / "vllm_offline.py"
        self._process = subprocess.Popen(
            [str(environment / "bin" / "python"), str(script)],
            env=server_environment(settings, environment, os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        fixed = {"dtype": settings.dtype, "max_model_len": settings.max_model_tokens}
        given = {**fixed, "enforce_eager": settings.eager, **arguments}
        self._ask({"model": settings.model, "arguments": given})

    def generate(self, prompts: Sequence[Sequence[int]], prompt_logprobs: int | None) -> float:
        """Return the seconds of one call."""
        asked = {"prompts": prompts, "prompt_logprobs": prompt_logprobs}
        return float(self._ask(asked)["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM ended with exit code {self._process.wait(60)}")
        answer: dict[str, Any] = json.loads(line)
        return answer
