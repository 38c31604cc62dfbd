"""What is remembered of a scorer's answers, and what is not."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kshot.clients.scorers.base import (
    Boundary,
    Chat,
    Message,
    NotScored,
    Pair,
    Parts,
    Scored,
    ScoringMode,
    ScoringOptions,
)
from kshot.errors import ScorerUnavailable, StoreCorrupt
from kshot.index.store import Store
from kshot.records import ScoreRecord
from kshot.server.services.scoring.cache import CachedScorer
from kshot.server.services.scoring.keys import PairKeys, greedy_key, label_keys
from kshot.server.services.scoring.memory import PER_TOKEN_BYTES, RECORD_BYTES, RecentScores
from tests.test_server.closed_form import ClosedFormScorer, greedy_of, nats_of, path_nats

_DEFAULTS = ScoringOptions()
PAIRS = [Pair(context="the sky is", completion=word) for word in (" blue", " red", " blue")]


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path}/store.sqlite") as opened:
        yield opened


@pytest.fixture
def scorer():
    return ClosedFormScorer()


class Counts(dict[str, int]):
    def __call__(self, outcome, number):
        self[outcome] = self.get(outcome, 0) + number


async def ask(scorer: CachedScorer, pairs: Any, options: ScoringOptions = _DEFAULTS) -> Any:
    return await scorer.score_batch(pairs, options)


def sums(results):
    return [one.sum_nats for one in results]


async def test_a_score_is_asked_for_once_and_found_in_memory_then_in_the_store(scorer, store):
    counts = Counts()
    cached = CachedScorer(scorer, store, count=counts)
    first = await ask(cached, PAIRS)
    assert sums(first) == [sum(path_nats(pair.context, pair.completion)) for pair in PAIRS]
    assert [one.cached for one in first] == [False, False, False]
    assert scorer.pairs == PAIRS[:2]
    second = await ask(cached, PAIRS[::-1])
    assert [replace(one, cached=False) for one in second] == first[::-1]
    assert all(one.cached for one in second)
    assert counts == {"memory": 2, "store": 0, "miss": 2}
    other = CachedScorer(scorer, store, count=counts)
    assert await ask(other, PAIRS) == second[::-1]
    assert counts == {"memory": 2, "store": 2, "miss": 2}
    assert len(scorer.pairs) == 2


async def test_every_mode_shares_the_score_and_its_own_mode_is_told(scorer):
    cached = CachedScorer(scorer)
    await ask(cached, PAIRS, ScoringOptions(mode=ScoringMode.ECHO))
    (one, *_) = await ask(cached, PAIRS, ScoringOptions(mode=ScoringMode.TRIE))
    assert (one.mode, one.cached) == (ScoringMode.ECHO, True)


@pytest.mark.parametrize(
    "options",
    [
        ScoringOptions(boundary=Boundary.SEPARATE),
        ScoringOptions(terminator="newline"),
        ScoringOptions(terminator="eot"),
        ScoringOptions(on_overflow="left"),
    ],
)
async def test_what_changes_the_number_makes_another_score(scorer, options):
    cached = CachedScorer(scorer)
    await ask(cached, PAIRS[:1])
    (one,) = await ask(cached, PAIRS[:1], options)
    assert not one.cached
    assert len(scorer.pairs) == 2


async def test_another_model_gives_other_scores(scorer, store):
    cached = CachedScorer(scorer, store)
    await ask(cached, PAIRS[:1])
    scorer.known = replace(scorer.known, fingerprint="bytes-2")
    assert not (await ask(cached, PAIRS[:1]))[0].cached


async def test_what_was_scored_while_the_model_changed_is_not_remembered(scorer, store):
    cached = CachedScorer(scorer, store)
    scorer.becomes = replace(scorer.known, fingerprint="bytes-2")
    await ask(cached, PAIRS[:1])
    assert store.count_scores() == 0
    assert not (await ask(cached, PAIRS[:1]))[0].cached
    assert (await ask(cached, PAIRS[:1]))[0].cached


async def test_tokens_are_asked_for_again_if_only_the_sum_is_known(scorer, store):
    cached = CachedScorer(scorer, store)
    await ask(cached, PAIRS[:1])
    wanted = ScoringOptions(per_token=True)
    (one,) = await ask(cached, PAIRS[:1], wanted)
    assert (one.cached, one.per_token) == (False, tuple(path_nats("the sky is", " blue")))
    (two,) = await ask(CachedScorer(scorer, store), PAIRS[:1], wanted)
    assert (two.cached, two.per_token) == (True, one.per_token)
    (three,) = await ask(cached, PAIRS[:1])
    assert (three.cached, three.per_token) == (True, None)


async def test_a_failure_stops_no_other_and_is_not_remembered(scorer):
    cached = CachedScorer(scorer)
    pairs = [PAIRS[0], Pair(context="a", completion="")]
    for asked in (2, 3):
        results = await ask(cached, pairs)
        assert isinstance(results[0], Scored)
        assert isinstance(results[1], NotScored)
        assert len(scorer.pairs) == asked


async def test_contexts_that_are_cut_are_remembered_by_where_they_are_cut(store):
    scorer = ClosedFormScorer(max_model_tokens=8)
    cached = CachedScorer(scorer, store)
    left = ScoringOptions(on_overflow="left")
    (cut,) = await ask(cached, PAIRS[:1], left)
    assert cut.dropped == 10 + 5 - 7
    assert (await ask(cached, PAIRS[:1], left))[0].cached
    assert isinstance((await ask(cached, PAIRS[:1]))[0], NotScored)
    scorer.known = replace(scorer.known, max_model_tokens=9)
    (less,) = await ask(cached, PAIRS[:1], left)
    assert (less.dropped, less.cached) == (7, False)


async def test_what_the_model_rules_out_is_remembered_and_what_is_no_number_is_not(scorer, store):
    cached = CachedScorer(scorer, store)
    await ask(cached, [Pair(context="a", completion="Z")])
    (one,) = await ask(CachedScorer(scorer, store), [Pair(context="a", completion="Z")])
    assert (one.sum_nats, one.cached) == (-math.inf, True)
    assert store.count_scores() == 1

    class Nan(ClosedFormScorer):
        async def label_logprobs(self, prompts, label_token_ids):
            return np.full((len(prompts), len(label_token_ids)), np.nan)

    await CachedScorer(Nan(), store).label_logprobs(["a"], [1])
    assert store.count_scores() == 1


async def test_labels_are_asked_for_only_where_one_is_missing(scorer, store):
    cached = CachedScorer(scorer, store)
    prompts: list[Any] = ["ab", "cd", (1, 2)]
    labels = [5, 6]
    await cached.label_logprobs(prompts[:1], labels[:1])
    await cached.label_logprobs(prompts[1:2], labels)
    scorer.prompts.clear()
    found = await cached.label_logprobs(prompts, labels)
    assert scorer.prompts == [prompts[0], prompts[2]]
    assert found.tolist() == [[nats_of(last, label) for label in labels] for last in (97 + 98, 99 + 100, 3)]
    assert (await CachedScorer(scorer, store).label_logprobs(prompts, labels)).tolist() == found.tolist()
    assert len(scorer.prompts) == 2
    assert (await cached.label_logprobs([], labels)).shape == (0, 2)


async def test_of_answers_only_the_confidence_is_remembered(scorer, store):
    cached = CachedScorer(scorer, store)
    prompts = ["ab", "cd", "ab"]
    expected = [greedy_of(prompt, 3) for prompt in prompts]
    assert (await cached.greedy_mean_nats(prompts, 3)).tolist() == [one.mean_nats for one in expected]
    assert scorer.prompts == ["ab", "cd"]
    again = await CachedScorer(scorer, store).greedy_mean_nats(prompts, 3)
    assert again.tolist() == [one.mean_nats for one in expected]
    assert scorer.prompts == ["ab", "cd"]
    await cached.greedy_mean_nats(prompts[:1], 4)
    assert await cached.greedy(prompts, 3) == expected
    assert scorer.prompts == ["ab", "cd", "ab", *prompts]


async def test_a_refused_scorer_gives_nothing_not_even_what_is_remembered(scorer, store):
    cached = CachedScorer(scorer, store)
    await ask(cached, PAIRS)
    scorer.refuse("C3: the chain rule does not hold", "C7: every option scores the same")
    with pytest.raises(ScorerUnavailable, match="C3: the chain rule does not hold; C7: every option"):
        await ask(cached, PAIRS)
    with pytest.raises(ScorerUnavailable):
        await cached.label_logprobs(["a"], [1])
    with pytest.raises(ScorerUnavailable):
        await cached.greedy_mean_nats(["a"], 1)


class BrokenStore:
    def get_scores(self, keys):
        raise StoreCorrupt

    def put_scores(self, records):
        raise StoreCorrupt

    def purge_scores(self, keep):
        raise StoreCorrupt


async def test_a_store_that_fails_costs_time_only(scorer):
    cached = CachedScorer(scorer, BrokenStore(), memory_bytes=0)
    assert sums(await ask(cached, PAIRS)) == sums(await ask(cached, PAIRS))
    assert len(scorer.pairs) == 4


async def test_the_store_forgets_the_oldest_at_intervals(scorer, store):
    cached = CachedScorer(scorer, store, store_rows=100, memory_bytes=0)
    pairs = [Pair(context="a", completion=f"{i:04d}") for i in range(2_100)]
    await ask(cached, pairs[:50])
    await ask(cached, pairs[50:150])
    assert store.count_scores() == 150
    await ask(cached, pairs[150:])
    assert store.count_scores() == 100
    none = CachedScorer(scorer, store, store_rows=0)
    await ask(none, [Pair(context="b", completion="b")])
    assert store.count_scores() == 100


async def test_requests_side_by_side_get_the_right_numbers(scorer, store):
    cached = CachedScorer(scorer, store, memory_bytes=RECORD_BYTES * 5)
    pairs = [Pair(context=f"c{i % 7}", completion=f"w{i % 11}") for i in range(200)]
    batches = [pairs[start : start + 20] for start in range(0, 200, 10)]
    results = await asyncio.gather(*(ask(cached, batch) for batch in batches))
    for batch, result in zip(batches, results, strict=True):
        assert sums(result) == [sum(path_nats(pair.context, pair.completion)) for pair in batch]


async def test_the_scorer_is_closed_with_its_cache(scorer):
    await CachedScorer(scorer).close()
    assert scorer.closed == 1


def record(number, tokens=0):
    return ScoreRecord(
        key=bytes([number]),
        nats=-1.0,
        tokens=1,
        bytes=1,
        characters=1,
        boundary="joint",
        mode="echo",
        per_token=(-1.0,) * tokens or None,
    )


def test_memory_forgets_what_was_not_used_for_longest():
    recent = RecentScores(3 * RECORD_BYTES)
    for number in range(3):
        recent.put(record(number))
    assert recent.get(b"\x00") is not None
    recent.put(record(3))
    assert [recent.get(bytes([number])) is not None for number in range(4)] == [True, False, True, True]
    recent.put(record(3, tokens=1))
    assert (len(recent), recent.bytes) == (2, 2 * RECORD_BYTES + PER_TOKEN_BYTES)
    recent.put(record(4, tokens=1_000))
    assert (len(recent), recent.bytes) == (0, 0)


def test_no_two_questions_have_one_key(scorer):
    keys_of = PairKeys(scorer.known, ScoringOptions())
    texts: list[Any] = ["", "a", "ab", "b", "\ud800", "é", (), (97,), (97, 98), (98,), (0, 0), (2**31,)]
    keys = [keys_of.key(Pair(context=one, completion=other)) for one in texts for other in texts]
    keys += [key for one in texts for key in label_keys("bytes-1", one, (0, 1))]
    keys += [greedy_key("bytes-1", one, n, stop) for one in texts for n in (1, 2) for stop in ("\n", ".")]
    assert len(set(keys)) == len(texts) * (len(texts) + 2 + 4)
    assert {len(key) for key in keys} == {16}


def test_a_key_of_parts_is_that_of_their_text_unless_some_may_be_dropped(scorer):
    parts = Parts(instruction="i", demonstrations=("a", "b"), query="q")
    others: list[Any] = [
        Parts(instruction="i", demonstrations=("ab",), query="q"),
        Parts(query="iabq"),
        "iabq",
    ]
    cases: list[tuple[Any, int]] = [("error", 1), ("left", 1), ("drop_demos", 4)]
    for overflow, kinds in cases:
        options = ScoringOptions(on_overflow=overflow)
        keys = {
            PairKeys(scorer.known, options).key(Pair(context=one, completion="c")) for one in (parts, *others)
        }
        assert len(keys) == kinds
    # How many are dropped is for the longest completion to say.
    dropping = ScoringOptions(on_overflow="drop_demos", boundary=Boundary.HARNESS)
    pair, beside = (Pair(context=parts, completion=word) for word in ("c", "long"))
    assert PairKeys(scorer.known, dropping, [pair]).key(pair) != PairKeys(
        scorer.known, dropping, [pair, beside]
    ).key(pair)
    narrow = replace(scorer.known, max_model_tokens=8)
    assert PairKeys(narrow, dropping).key(pair) != PairKeys(scorer.known, dropping).key(pair)


def test_chats_that_differ_have_other_keys(scorer):
    ask, hint = Message(role="user", content="a"), Message(role="system", content="a")
    chats: list[Any] = [
        Chat(messages=(ask,)),
        Chat(messages=(hint,)),
        Chat(messages=(hint, ask)),
        Chat(messages=(ask,), template_switches='{"x": 1}'),
        Parts(query="a"),
    ]
    keys = {PairKeys(scorer.known, _DEFAULTS).key(Pair(context=one, completion="c")) for one in chats}
    assert len(keys) == 5


def test_no_completions_make_a_context_read_as_another(scorer):
    """What follows a context in its key are all its completions: where it ends must be plain."""
    dropping = ScoringOptions(on_overflow="drop_demos")
    message = Message(role="abc", content="abcd")
    cases: list[tuple[ScoringOptions, Any, Any, list[str]]] = [
        (_DEFAULTS, Chat(messages=(message,)), "chat", ["{}", "abc", "abcd", "chat"]),
        (
            dropping,
            Parts(instruction="i", demonstrations=("d", "q", "parts"), query="x"),
            Parts(instruction="i", demonstrations=("d",), query="q"),
            ["x", "parts"],
        ),
    ]
    for options, one, other, words in cases:
        batches = [
            [Pair(context=context, completion=word) for word in ("a completion", *beside)]
            for context, beside in ((one, []), (other, words))
        ]
        keys = [PairKeys(scorer.known, options, batch).key(batch[0]) for batch in batches]
        assert keys[0] != keys[1]


def test_a_key_of_ids_does_not_depend_on_its_batch(scorer):
    pair, beside = (Pair(context=(1, 2), completion=(token,)) for token in (3, 4))
    keys = [
        PairKeys(scorer.known, _DEFAULTS, batch).key(pair)
        for batch in ([], [pair], [pair, beside], [beside, pair])
    ]
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("boundary", "kinds"), [(None, 2), (Boundary.JOINT, 2), (Boundary.SEPARATE, 2), (Boundary.HARNESS, 1)]
)
def test_a_key_of_text_depends_on_the_completions_beside_it_where_they_share_a_border(
    scorer, boundary, kinds
):
    pair, beside, elsewhere = (
        Pair(context="a", completion="b"),
        Pair(context="a", completion="c"),
        Pair(context="d", completion="e"),
    )
    keys = [
        PairKeys(scorer.known, ScoringOptions(boundary=boundary), batch).key(pair)
        for batch in ([pair], [pair, pair, elsewhere], [pair, beside], [beside, elsewhere, pair])
    ]
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(set(keys)) == kinds


async def test_completions_that_share_a_border_are_asked_for_together_again(scorer):
    group = [Pair(context="the sky is", completion=word) for word in (" blue", " red")]
    cached = CachedScorer(scorer, memory_bytes=RECORD_BYTES)  # there is room for one of the two
    await ask(cached, group)
    again = await ask(cached, group)
    assert scorer.pairs == group * 2
    assert sums(again) == [sum(path_nats(pair.context, pair.completion)) for pair in group]
    alone = ScoringOptions(boundary=Boundary.HARNESS)
    await ask(cached, group, alone)
    await ask(cached, group, alone)
    assert len(scorer.pairs) == 7
