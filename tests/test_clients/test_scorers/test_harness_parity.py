"""The same questions as lm-evaluation-harness was asked, of the same model on a real vLLM.

``benchmarks/peers/lm_eval_fixture.py`` recorded its answers.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from kshot.clients.scorers.base import Boundary, Pair, ScoringMode, ScoringOptions
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from tests.real_models import vllm_server
from tests.test_clients.test_scorers.choice_items import choice_items, processor
from tests.test_clients.test_scorers.real import scored

RECORDED = json.loads((Path(__file__).parent / "golden" / "harness.json").read_text("utf-8"))


@pytest.mark.vllm
async def test_scores_and_choices_are_those_of_the_harness():
    items = choice_items()
    pairs = [
        Pair(context=f"Question: {item['input']}\nAnswer:", completion=f" {option}")
        for item in items
        for option in item["options"]
    ]
    theirs = np.array(RECORDED["nats"])
    # Better than chance by far, so that agreement is no agreement on noise.
    right = np.array([item["answer"] for item in items])
    assert (theirs.argmax(axis=1) == right).mean() == pytest.approx(RECORDED["accuracy"])
    assert RECORDED["accuracy"] > 0.4
    with vllm_server() as server:
        scorer = VllmHttpScorer(server.url)
        for mode in (ScoringMode.ECHO, None):
            results = await scored(scorer, pairs, ScoringOptions(boundary=Boundary.HARNESS, mode=mode))
            ours = np.array([one.sum_nats for one in results]).reshape(theirs.shape)
            tokens = np.array([one.tokens for one in results]).reshape(theirs.shape)
            _compare(ours, theirs, tokens)
        await scorer.close()


def _compare(ours, theirs, tokens):
    # Where the answers were recorded the engine is the same to the bit or nearly; elsewhere bfloat16 is not.
    is_recorder = RECORDED["processor"] == processor()
    assert (np.abs(ours - theirs) / tokens).max() < (0.02 if is_recorder else 0.1)
    chosen = ours.argmax(axis=1)
    behind = theirs.max(axis=1) - theirs[np.arange(len(theirs)), chosen]
    # Less than 0.05 nats apart is a tie in half precision.
    assert (behind < 0.05).mean() >= 0.99
    if is_recorder:
        assert (chosen == theirs.argmax(axis=1)).mean() >= 0.99
