"""MABWiser's LinUCB and Vowpal Wabbit's SquareCB, playing in an environment of their own."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PEERS = {"mabwiser": "MABWiser LinUCB, alpha 0.5", "vowpal_wabbit": "Vowpal Wabbit SquareCB"}
ROOT = Path(__file__).parent.parent.parent


def started(
    python: str | None, scenarios: Iterable[str], seeds: int, steps: int
) -> "dict[str, subprocess.Popen[str]]":
    """Let every peer play some scenarios, on the very contexts and coins; none without a Python for them."""
    options = ["--seeds", str(seeds), "--steps", str(steps)]
    return {
        name: subprocess.Popen(
            [python, "-m", "benchmarks.peers.policies_play", name, *scenarios, *options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in PEERS
        if python
    }


def results_of(name: str, process: "subprocess.Popen[str]") -> dict[str, list[dict[str, Any]]]:
    """Wait for a peer, and return what it lost by scenario, a row per seed."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{PEERS[name]} failed; what it said stands above")
    said = json.loads(output.splitlines()[-1])
    print(f"{PEERS[name]}, version {said['version']}")
    results: dict[str, list[dict[str, Any]]] = said["results"]
    return results
