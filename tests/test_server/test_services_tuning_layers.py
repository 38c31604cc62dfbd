"""Tuning over the real service: which token layer is worth embedding again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.clients.embedders.base import TextFeatures
from kshot.clients.embedders.hashing import HashingEmbedder
from tests.test_server.live import Live, LivePool, running
from tests.test_server.live_tuning import plain, tuned


@pytest.fixture
def deaf_layer(monkeypatch: pytest.MonkeyPatch):
    """Let layer 0 hear nothing but places, and the sentence vector nothing at all."""
    encode = HashingEmbedder.encode

    def hears_little(self: Any, texts: Any, *, token_layer: Any, spans: bool = False) -> TextFeatures:
        features = encode(self, texts, token_layer=token_layer, spans=spans)
        features.vectors[:] = np.eye(1, features.vectors.shape[1], dtype=np.float32)
        if token_layer == 0 and features.tokens is not None and features.offsets is not None:
            starts = np.repeat(features.offsets[:-1], np.diff(features.offsets))
            places = np.arange(len(features.tokens)) - starts
            features.tokens[:] = np.eye(features.tokens.shape[1], dtype=np.float32)[places]
        return features

    monkeypatch.setattr(HashingEmbedder, "encode", hears_little)


@pytest.mark.usefixtures("deaf_layer")
def test_a_better_token_layer_is_applied_by_embedding_again(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(token_layer=0)
        # No two rows share a word, only parts of words, which layer 1 alone hears.
        rows = plain(100)
        pool.add(
            {**row, "inputs": " ".join(f"{word}{i}" for word in row["inputs"].split())}
            for i, row in enumerate(rows)
        )
        result = tuned(live, pool, apply=True)
        assert [(step["compares"], step["accepted"]) for step in result["steps"]] == [
            ("weights", False),
            ("token_layer", True),
        ]
        assert (result["before"]["token_layer"], result["after"]["token_layer"]) == (0, 1)
        assert result["settings"]["token_layer"] == 1
        job = live.finished(result["job_id"])
        assert (job["kind"], job["state"]) == ("reembed", "succeeded")
        settings = pool.info()["settings"]
        assert settings["token_layer"] == 1
        assert (
            settings["select"]["params"].get("fused", result["before"]["weights"])
            == result["after"]["weights"]
        )
        assert tuned(live, pool)["after"] is None


@pytest.mark.usefixtures("deaf_layer")
def test_a_layer_that_tells_nothing_is_not_worth_embedding_again(live: Live, pool: LivePool):
    pool.add(plain(100))
    result = tuned(live, pool, layers=[0])
    assert result["after"] is None or result["after"]["token_layer"] == 1
    assert not result["steps"][1]["accepted"]
