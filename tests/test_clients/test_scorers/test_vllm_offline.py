"""An engine in this process: the same numbers as its model's closed form, in a thread of its own."""

import random
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest

from kshot.clients.scorers.base import NotScored, Pair, Scored, ScoringMode
from kshot.clients.scorers.engine import load_vllm
from kshot.clients.scorers.factory import build_scorer
from kshot.clients.scorers.vllm_offline import VllmOfflineScorer
from kshot.errors import InvalidInput, MissingDependency, ScorerUnavailable
from tests.test_clients.test_scorers.toy import IDS, random_group
from tests.test_clients.test_scorers.toy_engine import ToyEngine


@asynccontextmanager
async def scorer_of(engine, **settings):
    scorer = VllmOfflineScorer("toy", audit_share=0.0, load=engine.loaded, **settings)
    try:
        yield scorer
    finally:
        await scorer.close()


@pytest.mark.parametrize("bare", [False, True], ids=["objects", "bare floats"])
async def test_every_mode_scores_in_closed_form_whichever_shape_answers_have(bare):
    rng = random.Random(1)
    engine = ToyEngine(bare=bare)
    groups = [random_group(rng, context=(1, 20), lengths=(1, 1 + 3 * (i % 2))) for i in range(60)]
    async with scorer_of(engine) as scorer:
        known = await scorer.capabilities()
        assert known.modes == tuple(ScoringMode)
        assert known.backend == "vllm"
        assert all(canary.passed for canary in known.canaries)
        assert [canary.name for canary in known.canaries] == [f"C{i}" for i in range(1, 9)]
        for mode in ScoringMode:
            fits = [
                g for g in groups if mode is not ScoringMode.LABEL or all(len(p.completion) == 1 for p in g)
            ]
            pairs = [pair for group in fits for pair in group]
            assert len(pairs) > 50
            for pair, scored in zip(pairs, await scorer.score_batch(pairs, IDS[mode]), strict=True):
                exact = engine.model.token_nats(pair.context, pair.completion)
                assert scored.mode is mode
                assert scored.per_token == pytest.approx(exact, abs=1e-9)
    asked = [params for _, params in engine.asked]
    # No text is made of scores, and no more is asked of a prompt than what it holds.
    assert {params.detokenize for params in asked} == {False}
    assert {params.prompt_logprobs for params in asked} == ({None, 0, 1} if bare else {None, 0})
    assert all(params.logprobs is None for params in asked if params.logprob_token_ids)


@pytest.mark.parametrize("bare", [False, True], ids=["objects", "bare floats"])
async def test_greedy_is_known_in_every_mode(bare):
    engine = ToyEngine(bare=bare)
    context = (19, 42, 77)
    best: list[int] = []
    for _ in range(3):
        best.append(int(engine.model.log_probs([*context, *best]).argmax()))
    other = (*best[:2], best[2] + 1 if best[2] < 199 else 19)
    pairs = [Pair(context=context, completion=tuple(best)), Pair(context=context, completion=other)]
    async with scorer_of(engine) as scorer:
        for mode in (ScoringMode.ECHO, ScoringMode.TRIE):
            assert [one.greedy for one in await scorer.score_batch(pairs, IDS[mode])] == [True, False]


async def test_many_prompts_are_one_call_of_the_engine_in_its_own_thread():
    rng = random.Random(2)
    engine = ToyEngine()
    contexts = sorted({tuple(rng.choices(range(19, 200), k=9)) for _ in range(200)})
    async with scorer_of(engine) as scorer:
        await scorer.capabilities()
        engine.asked.clear()
        labels = await scorer.label_logprobs(contexts, [20, 21, 22])
        assert [count for count, _ in engine.asked] == [200]
        exact = [engine.model.log_probs(context)[[20, 21, 22]] for context in contexts]
        assert labels == pytest.approx(np.array(exact), abs=1e-9)
    (name,) = engine.threads
    assert name != threading.current_thread().name


async def test_answers_are_generated_until_they_stop():
    engine = ToyEngine()
    async with scorer_of(engine) as scorer:
        (answer,) = await scorer.greedy(["what is"], 4)
    ids = engine.tokenizer.encode("what is")
    nats: list[float] = []
    text: list[int] = []
    while len(text) < 4:
        row = engine.model.log_probs([*ids, *text])
        text.append(int(row.argmax()))
        nats.append(float(row.max()))
    assert answer.tokens == 4
    assert answer.text == engine.tokenizer.decode(text)
    assert answer.mean_nats == pytest.approx(sum(nats) / 4, abs=1e-9)


async def test_a_refused_prompt_stops_no_other_and_is_not_quoted():
    engine = ToyEngine()
    pairs = [Pair(context=(19, 777), completion=(30,)), Pair(context=(19,), completion=(30,))]
    pairs.append(Pair(context=(19,), completion=(777,)))
    async with scorer_of(engine) as scorer:
        refused, scored, unknown = await scorer.score_batch(pairs)
        with pytest.raises(InvalidInput):
            await scorer.label_logprobs([(19,)], [777, 30])
    assert isinstance(refused, NotScored)
    assert isinstance(unknown, NotScored)
    assert refused.code == unknown.code == "invalid_input"
    assert "777" not in refused.message + unknown.message
    assert isinstance(scored, Scored)


async def test_an_engine_that_died_is_loaded_again():
    engines = [ToyEngine(), ToyEngine()]
    loads = iter(engines)
    scorer = VllmOfflineScorer("toy", audit_share=0.0, load=lambda: next(loads).loaded())
    pair = Pair(context=(19,), completion=(30,))
    (before,) = await scorer.score_batch([pair])
    engines[0].dies = True
    with pytest.raises(ScorerUnavailable, match="died of Death"):
        await scorer.score_batch([pair])
    assert engines[0].ended
    (after,) = await scorer.score_batch([pair])
    assert after == before
    await scorer.close()
    await scorer.close()
    assert engines[1].ended
    with pytest.raises(ScorerUnavailable, match="closed"):
        await scorer.score_batch([pair])


async def test_a_model_that_cannot_be_loaded_is_said_each_time():
    def fails():
        raise ScorerUnavailable("model 'm' cannot be loaded: OSError: none")

    scorer = VllmOfflineScorer("m", load=fails)
    for _ in range(2):
        with pytest.raises(ScorerUnavailable, match="cannot be loaded"):
            await scorer.capabilities()
    await scorer.close()


def test_without_vllm_the_message_says_how_to_install_it():
    with pytest.raises(MissingDependency, match=r'pip install "kshot\[vllm\]"'):
        build_scorer("vllm_offline", model="m")
    with pytest.raises(ScorerUnavailable, match="ModuleNotFoundError"):
        load_vllm("m", {})
