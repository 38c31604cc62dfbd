"""The cheapest way is taken, and costs at most a tenth more than the best there is."""

import random

import pytest

from kshot.clients.scorers.base import Pair, ScoringMode
from kshot.clients.scorers.cache_blocks import computed_tokens, parse_block_tokens
from kshot.clients.scorers.mode_choice import choose_mode, echo_tokens, trie_tokens
from kshot.clients.scorers.tries import Node, inner_nodes, path_nats
from kshot.clients.scorers.waves import calls, waves
from kshot.testing import PrefixCache, ToyCompletionServer
from tests.test_clients.test_scorers.toy import IDS, random_ids, ready, scorer_of

ECHO, LABEL, TRIE = ScoringMode.ECHO, ScoringMode.LABEL, ScoringMode.TRIE
ALL = tuple(ScoringMode)


def test_the_tree_of_three_completions():
    # a b, a c, d: the root and the node after a.
    assert inner_nodes([(1, 2), (1, 3), (4,)]) == [Node((), (1, 4)), Node((1,), (2, 3))]
    answers = {(): {1: -0.5, 4: -3.0}, (1,): {2: -0.25, 3: -2.0}}
    assert path_nats((1, 3), answers) == (-0.5, -2.0)
    # One is the beginning of another.
    assert inner_nodes([(1,), (1, 2)]) == [Node((), (1,)), Node((1,), (2,))]


def test_four_options_of_three_tokens_after_three_thousand():
    options = [(i, 10 + i, 20 + i) for i in range(4)]
    assert echo_tokens(3000, options) == 4 * 3003
    # Once 3000 tokens, of which 187 blocks of 16 are kept, 2992. Then for each option a prompt of 3001 and
    # one of 3002, of which 9 and 10 are computed.
    assert trie_tokens(3000, options) == 3000 + 4 * (9 + 10)
    # Each of the 12 edges is one question: the root's other three compute 8.
    assert trie_tokens(3000, options, forced=True) == 3000 + 3 * 8 + 4 * (9 + 10)
    # 23 blocks of 128 are 2944 tokens.
    assert trie_tokens(3000, options, block_tokens=128) == 3000 + 4 * (57 + 58)
    assert trie_tokens(3000, options, block_tokens=None) == 3000 + 4 * (3001 + 3002)
    assert choose_mode(3000, options, allowed=ALL) is TRIE


def test_large_blocks_and_no_cache_favour_reading():
    options = [(i, 10 + i, 20 + i) for i in range(4)]
    # Four times 103 tokens. Of 100, 101 and 102 tokens 96 are kept in blocks of 16: 100 + 4 (5 + 6), and
    # 9 questions at 4 tokens each.
    assert choose_mode(100, options, allowed=ALL, block_tokens=16) is TRIE
    # No block of 128 is full: 100 + 4 (101 + 102).
    assert choose_mode(100, options, allowed=ALL, block_tokens=128) is ECHO
    assert choose_mode(3000, options, allowed=ALL, block_tokens=None) is ECHO
    assert choose_mode(3000, [(1,), (2,)], allowed=ALL, block_tokens=None) is LABEL


def test_what_the_metrics_say_of_the_cache():
    told = (
        '# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="128",engine="0",'
        'enable_prefix_caching="True",mamba_block_size="None"} 1.0\n'
    )
    assert parse_block_tokens(told) == 128
    assert parse_block_tokens(told + told.replace("128", "256")) == 256
    assert parse_block_tokens(told.replace('"True"', '"False"')) is None
    assert parse_block_tokens(told.replace("{block_size", "{hash_block_size")) == 16
    assert parse_block_tokens("vllm:num_requests_running 0.0\n") == 16
    # At least the last token is computed.
    assert [computed_tokens(n, n - 1, 16) for n in (1, 16, 17, 32, 33)] == [1, 16, 1, 16, 1]


def test_one_long_completion_is_read():
    assert choose_mode(3000, [tuple(range(200))], allowed=ALL) is ECHO


def test_single_tokens_are_labels():
    assert choose_mode(3, [(1,), (2,)], allowed=ALL) is LABEL
    # One by one, few tokens cost less read at once.
    assert choose_mode(3, [(1,), (2,)], allowed=ALL, forced=True) is ECHO
    assert choose_mode(300, [(1,), (2,), (3,)], allowed=ALL, forced=True) is LABEL


def test_what_is_not_allowed_is_not_chosen():
    options = [(1, 2), (1, 3)]
    assert choose_mode(3000, options, allowed=[ECHO]) is ECHO
    assert choose_mode(3, options, allowed=[TRIE]) is TRIE
    assert choose_mode(3, options, allowed=[LABEL]) is None
    assert choose_mode(3000, options, allowed=[ECHO], max_echo_tokens=1000) is None
    assert choose_mode(3000, [tuple(range(200))], allowed=ALL, max_echo_tokens=1000) is TRIE


def workload(rng):
    """Return pairs of one context: as with labels, with short answers, or with one long one."""
    kind = rng.choice(["labels", "answers", "long"])
    context = random_ids(rng, 20, 400)
    if kind == "labels":
        return [Pair(context=context, completion=(rng.randrange(19, 200),)) for _ in range(rng.randint(2, 8))]
    if kind == "answers":
        return [Pair(context=context, completion=random_ids(rng, 1, 4)) for _ in range(rng.randint(2, 8))]
    return [Pair(context=context, completion=random_ids(rng, 30, 80)) for _ in range(rng.randint(1, 2))]


async def cost(pairs, mode, block_tokens):
    """Prompt tokens that a server with an empty cache computes; without a cache where the blocks are of 0."""
    server = ToyCompletionServer(block_tokens=block_tokens or 16, prefix_caching=block_tokens > 0)
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        server.restart()
        await scorer.score_batch(pairs, IDS[mode])
    return server.ledger.prefilled_tokens


@pytest.mark.slow
@pytest.mark.parametrize("block_tokens", [16, 128, 0])
async def test_on_a_hundred_workloads_the_choice_costs_at_most_a_tenth_more_than_the_best(block_tokens):
    rng = random.Random(4)
    chosen = best = 0
    for _ in range(100):
        pairs = workload(rng)
        single = all(len(pair.completion) == 1 for pair in pairs)
        costs = [await cost(pairs, mode, block_tokens) for mode in ALL if single or mode is not LABEL]
        chosen += await cost(pairs, None, block_tokens)
        best += min(costs)
    assert chosen <= 1.1 * best


async def test_nearly_all_followers_find_their_beginning_cached():
    rng = random.Random(5)
    instruction = random_ids(rng, 200, 200)
    contexts = [instruction + random_ids(rng, 30, 120) for _ in range(100)]
    pairs = [Pair(context=one, completion=(label,)) for one in contexts for label in (50, 60, 70, 80)]
    server = ToyCompletionServer()
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        await scorer.score_batch(pairs)
    assert len(server.ledger.prompts) == 100
    # 200 tokens are twelve blocks and a half.
    cached = [cached for _, cached in server.ledger.prompts]
    assert sum(tokens >= 192 for tokens in cached) >= 90


def test_a_leader_goes_before_those_that_share_its_blocks():
    shared = tuple(range(32))
    prompts = [(*shared, 3), (*shared, 1), (9,) * 40, shared[:16]]
    # The one that is the beginning of others leads, and the next holds a block that it does not.
    assert waves(prompts, 16) == [[3, 2], [1], [0]]
    # With larger blocks they share none, and without a cache nothing.
    assert waves(prompts, 64) == waves(prompts, None) == [[3, 1, 0, 2]]
    cache = PrefixCache()
    for number, wave in enumerate(waves(prompts, 16)):
        found = [cache.cached_tokens(prompts[i]) for i in wave]
        for i in wave:
            cache.store(prompts[i])
        assert all(found) == (number > 0)


def test_waves_hold_every_prompt_once_and_are_few():
    rng = random.Random(6)
    prompts = [tuple(range(16 * rng.randint(0, 40))) + random_ids(rng, 1, 20) for _ in range(300)]
    numbered = waves(prompts, 16)
    assert sorted(i for wave in numbered for i in wave) == list(range(300))
    assert len(numbered) <= 8
    assert waves([], 16) == waves([], None) == []


def test_calls_are_packed_up_to_their_limits():
    sizes = [5, 5, 5, 50, 1, 1, 1]
    packed = calls(
        range(7), tokens=lambda i: sizes[i], fits=lambda _call, i: i != 1, max_tokens=10, max_prompts=2
    )
    # 1 may not join; 3 is too large for company; two at most.
    assert list(packed) == [[0], [1, 2], [3], [4, 5], [6]]
