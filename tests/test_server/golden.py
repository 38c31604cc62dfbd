"""Write the golden files again: ``python -m tests.test_server.golden``; read the difference first."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from kshot.server.app import create_app
from kshot.server.settings import Settings
from tests.test_server.stubs import StubServices

FOLDER = Path(__file__).parents[1] / "golden"


def openapi() -> dict[str, Any]:
    return create_app(StubServices(), Settings()).openapi()


async def problems() -> dict[str, Any]:
    from tests.test_server.test_problems import BAD_BODIES  # noqa: PLC0415  (pytest imports this module too)

    transport = httpx.ASGITransport(app=create_app(StubServices(), Settings()))
    found = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for name, (operation, body) in BAD_BODIES.items():
            response = await client.post(
                f"/v1/pools/tickets/{operation}", json=body, headers={"X-Request-Id": "r"}
            )
            found[name] = response.json()
    return found


def write(name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write("openapi.json", openapi())
    write("problems.json", asyncio.run(problems()))
