"""The example files are what their README says: parseable, labelled, and free of copied sentences."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CHANNELS = {"email", "chat", "phone"}
PRIORITIES = {"low", "normal", "high"}
PRODUCTS = {
    "hub",
    "lamp",
    "plug",
    "sensor",
    "camera",
    "doorbell",
    "lock",
    "thermostat",
    "blinds",
    "app",
    "cloud_plan",
    "account",
    "shop",
}


def read_rows(name: str) -> list[dict[str, Any]]:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> list[str]:
    return re.sub(r"[^\w\s]|_", "", text.lower()).split()


def shared_runs(rows: list[dict[str, Any]], length: int) -> list[tuple[str, str, str]]:
    """Every run of `length` words that two rows share: (first id, second id, the words)."""
    first_seen: dict[tuple[str, ...], str] = {}
    shared = []
    for row in rows:
        tokens = words(row["inputs"])
        for start in range(len(tokens) - length + 1):
            run = tuple(tokens[start : start + length])
            owner = first_seen.setdefault(run, row["id"])
            if owner != row["id"]:
                shared.append((owner, row["id"], " ".join(run)))
    return shared


@pytest.fixture(scope="module")
def pool() -> list[dict[str, Any]]:
    return read_rows("support_tickets.jsonl")


@pytest.fixture(scope="module")
def queries() -> list[dict[str, Any]]:
    return read_rows("support_queries.jsonl")


def test_every_row_has_the_documented_fields_and_values(pool, queries):
    for row in [*pool, *queries]:
        assert list(row) == ["id", "inputs", "outputs", "metadata"], row
        assert row["inputs"] == row["inputs"].strip(), row
        assert 4 <= len(row["inputs"].split()) <= 60, row
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row["outputs"]), row
        assert list(row["metadata"]) == ["channel", "lang", "product", "priority"], row
        assert row["metadata"]["channel"] in CHANNELS, row
        assert row["metadata"]["lang"] == "en", row
        assert row["metadata"]["product"] in PRODUCTS, row
        assert row["metadata"]["priority"] in PRIORITIES, row


def test_the_pool_has_enough_rows_and_there_are_forty_queries(pool, queries):
    assert len(pool) >= 250
    assert len(queries) == 40


def test_ids_are_unique_across_both_files(pool, queries):
    repeated = [key for key, count in Counter(row["id"] for row in [*pool, *queries]).items() if count > 1]
    assert repeated == []


def test_texts_are_unique_across_both_files(pool, queries):
    # Rows shorter than five words have no five-word run, so the next test alone would miss their copies.
    texts = Counter(tuple(words(row["inputs"])) for row in [*pool, *queries])
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_two_rows_share_five_words_in_a_row(pool, queries):
    assert shared_runs([*pool, *queries], 5) == []


def test_the_search_for_shared_runs_sees_through_case_and_punctuation():
    rows = [
        {"id": "a", "inputs": "Well: I don't like THIS, lamp!"},
        {"id": "b", "inputs": "i dont like this - lamp at all"},
        {"id": "c", "inputs": "I don't like this hub"},
    ]
    assert shared_runs(rows, 5) == [("a", "b", "i dont like this lamp")]


def test_the_pool_has_enough_intents_with_enough_rows_each(pool):
    counts = Counter(row["outputs"] for row in pool)
    assert len(counts) >= 14
    assert {intent: count for intent, count in counts.items() if count < 10} == {}


def test_every_query_intent_occurs_in_the_pool(pool, queries):
    assert {row["outputs"] for row in queries} <= {row["outputs"] for row in pool}


def test_the_readme_names_every_intent_and_the_number_of_rows(pool, queries):
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", readme, flags=re.MULTILINE)) - {
        "id",
        "inputs",
        "outputs",
    }
    assert documented == {row["outputs"] for row in pool}
    for name, rows in (("support_tickets.jsonl", pool), ("support_queries.jsonl", queries)):
        assert f"| `{name}` | {len(rows)} |" in readme
