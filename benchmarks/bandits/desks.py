"""Three ways to prompt one model for a bank's questions, and its answers to all of them, computed once.

Three desks keep examples of their own intents. A prompt shows the two of one desk's examples that are nearest
to the question, so that the model can only say what that desk knows: which prompt is right depends on the
question. The desks are divided by words in the intents' names, with no look at any question to be answered.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from kshot import Client

DESKS = ("cards", "cash", "money")
K = 2
MAX_TOKENS = 14
AT_ONCE = 100
_CASH = ("top up", "topping up", "cash", "cheque", "atm")
_CARDS = ("card", "pin", "contactless", "apple pay", "visa")


def desk_of(intent: str) -> str:
    """Return whose intent it is: cash and top-ups, cards, or transfers, money and accounts."""
    if any(word in intent for word in _CASH):
        return "cash"
    return "cards" if any(word in intent for word in _CARDS) else "money"


def variants() -> list[dict[str, Any]]:
    """Return the variants of the policy: from which pool demonstrations come, and how many."""
    return [{"name": desk, "parameters": {"pool": desk, "k": K, "method": "similarity"}} for desk in DESKS]


def prompt_of(client: Client, parameters: Any, question: str) -> str:
    """Return the prompt that a variant makes for a question."""
    chosen = client.select(
        parameters["pool"],
        question,
        k=int(parameters["k"]),
        method=parameters["method"],
        order="nearest_last",
    )
    shown = "".join(f"Question: {one.inputs}\nIntent: {one.outputs}\n\n" for one in chosen)
    return f"{shown}Question: {question}\nIntent:"


def is_right(answer: str, intent: str) -> bool:
    """Return whether an answer is the intent, word for word but for case and space around it."""
    return answer.strip().lower() == intent.strip().lower()


class Answers:
    """A model's greedy answers, kept in a file by what was asked."""

    def __init__(self, folder: Path, model: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "answers.jsonl"
        self._model = model
        self._known: dict[str, str] = {}
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._known[row["key"]] = row["answer"]

    def key(self, prompt: str) -> str:
        """Return what tells one question to one model from all others."""
        text = json.dumps([self._model, MAX_TOKENS, prompt])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def __getitem__(self, prompt: str) -> str:
        return self._known[self.key(prompt)]

    def missing(self, prompts: Sequence[str]) -> list[str]:
        """Return the prompts without an answer, each once."""
        return [one for one in dict.fromkeys(prompts) if self.key(one) not in self._known]

    def ask(self, prompts: Sequence[str], url: str, name: str) -> None:
        """Have a server with OpenAI's completions answer, and keep each batch as it comes."""
        started = time.perf_counter()
        with httpx.Client(base_url=url, timeout=1800) as http, self._path.open("a", encoding="utf-8") as file:
            for start in range(0, len(prompts), AT_ONCE):
                batch = list(prompts[start : start + AT_ONCE])
                body = {
                    "model": name,
                    "prompt": batch,
                    "max_tokens": MAX_TOKENS,
                    "temperature": 0,
                    "stop": ["\n"],
                }
                choices = http.post("/v1/completions", json=body).raise_for_status().json()["choices"]
                for choice in choices:
                    key = self.key(batch[choice["index"]])
                    self._known[key] = choice["text"].strip()
                    file.write(json.dumps({"key": key, "answer": self._known[key]}) + "\n")
                file.flush()
                seconds = time.perf_counter() - started
                print(f"  {start + len(batch)} of {len(prompts)} answers after {seconds:.0f} s", flush=True)
