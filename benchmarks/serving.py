"""`kshot serve` as a subprocess that is measured."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx


class Server:
    """A server on a free port, with the query cache off: embedding is measured, not remembering."""

    def __init__(self, data: Path, threads: int) -> None:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "KSHOT_QUERY_CACHE_BYTES": "0",
            "KSHOT_THREADS": str(threads),
        }
        command = [sys.executable, "-m", "kshot", "serve", "--port", "0", "--data", str(data)]
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "--log-level", "warning"], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        found = None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                break
        if found is None:
            sys.exit("the server did not start")
        self.url = found.group()
        self.start_s = time.perf_counter() - started
        self.client = httpx.Client(base_url=self.url, timeout=3600)

    def ingest(self, pool: str, rows: list[dict[str, Any]]) -> float:
        """Make a pool and post rows as NDJSON; returns the seconds until all are selectable."""
        self.client.post("/v1/pools", json={"name": pool}).raise_for_status()
        body = "\n".join(json.dumps(row) for row in rows).encode()
        started = time.perf_counter()
        self.client.post(
            f"/v1/pools/{pool}/examples?wait=indexed",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        ).raise_for_status()
        return time.perf_counter() - started

    def memory_mb(self) -> dict[str, float]:
        """Read anonymous and resident memory."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="utf-8")
        field = {name: int(kb) / 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        return {"anonymous": round(field["Anonymous"]), "resident": round(field["Rss"])}

    def close(self) -> None:
        """Stop it and wait."""
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
