"""The same pairs scored by one real vLLM in every way there is, and by how much the answers differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from kshot.clients.scorers.base import Pair, Scored, Scorer, ScoringMode, ScoringOptions
from tests.test_clients.test_scorers.real import FACTS, LABELS, SHOTS, scored, shuffled

INPUTS = (
    "I loved every bite.",
    "Never again!",
    "It was fine.",
    "We waited an hour for a cold pizza.",
    "The dessert alone is worth the trip.",
    "They forgot half of our order, twice.",
    "Friendly people, average food.",
    "My new favourite place.",
)
PROMPTS = [f"{SHOTS}Review: {text}\nSentiment:" for text in INPUTS]
LONG = f"{SHOTS * 8}Review: {INPUTS[3]}\nSentiment:"
"""About 800 tokens: several chunks of what is computed at once."""
PAIRS = [
    *(Pair(context=LONG, completion=label) for label in LABELS),
    *(Pair(context=prompt, completion=label) for prompt in PROMPTS for label in LABELS),
    *(Pair(context=f"{SHOTS}Review:", completion=f" {text}") for text in INPUTS),
    *(Pair(context=fact, completion=word) for fact, *words in FACTS for word in words),
]
"""Labels after a long prompt and after short ones that start alike, sentences, words after short facts."""
TOKENS = (2731, 3524, 7042, 30)
SINGLE = [Pair(context=prompt, completion=(token,)) for prompt in PROMPTS for token in TOKENS]
ALONE = range(0, len(PAIRS), 5)
MODES = {
    mode: ScoringOptions(mode=mode, per_token=True)
    for mode in (ScoringMode.ECHO, ScoringMode.LABEL, ScoringMode.TRIE)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one vLLM said, each list in the order of its pairs."""

    tolerance_nats: float
    """Per token, as its canaries measured it."""
    cold: list[Scored]
    """`PAIRS` by trie, for the first time: only what they share with each other is in the prefix cache."""
    trie: list[Scored]
    """Again, with everything in the cache."""
    echo: list[Scored]
    """`PAIRS` by echo."""
    trie_shuffled: list[Scored]
    echo_shuffled: list[Scored]
    trie_alone: list[Scored]
    """Some of the pairs, each in a batch of its own."""
    echo_alone: list[Scored]
    single: dict[ScoringMode, list[Scored]]
    """`SINGLE` in every mode."""


async def ask_in_every_way(scorer: Scorer) -> Answers:
    """Score the pairs again and again."""
    return Answers(
        tolerance_nats=(await scorer.capabilities()).tolerance_nats,
        cold=await scored(scorer, PAIRS, MODES[ScoringMode.TRIE]),
        trie=await scored(scorer, PAIRS, MODES[ScoringMode.TRIE]),
        echo=await scored(scorer, PAIRS, MODES[ScoringMode.ECHO]),
        trie_shuffled=await _shuffled(scorer, ScoringMode.TRIE),
        echo_shuffled=await _shuffled(scorer, ScoringMode.ECHO),
        trie_alone=[(await scored(scorer, [PAIRS[i]], MODES[ScoringMode.TRIE]))[0] for i in ALONE],
        echo_alone=[(await scored(scorer, [PAIRS[i]], MODES[ScoringMode.ECHO]))[0] for i in ALONE],
        single={mode: await scored(scorer, SINGLE, options) for mode, options in MODES.items()},
    )


async def _shuffled(scorer: Scorer, mode: ScoringMode) -> list[Scored]:
    order = shuffled(len(PAIRS), seed=1)
    results = await scored(scorer, [PAIRS[i] for i in order], MODES[mode])
    return [results[order.index(i)] for i in range(len(PAIRS))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncached:
    """What one vLLM without a prefix cache said of `PAIRS`."""

    tolerance_nats: float
    trie: list[Scored]
    echo: list[Scored]


async def ask_without_cache(scorer: Scorer) -> Uncached:
    """Score the pairs in two ways."""
    return Uncached(
        tolerance_nats=(await scorer.capabilities()).tolerance_nats,
        trie=await scored(scorer, PAIRS, MODES[ScoringMode.TRIE]),
        echo=await scored(scorer, PAIRS, MODES[ScoringMode.ECHO]),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much two lists of scores differ, in nats per token."""

    largest: float
    mean: float
    tokens: int
    largest_of_a_sum: float
    """The largest difference of a completion's sum, per token of it."""

    def __str__(self) -> str:
        return (
            f"largest {self.largest:.2g}, mean {self.mean:.2g}, largest of a completion "
            f"{self.largest_of_a_sum:.2g} nats per token; {self.tokens} tokens"
        )


def difference(left: Sequence[Scored], right: Sequence[Scored]) -> Difference:
    """Compare scores of the same pairs token by token."""
    apart: list[float] = []
    of_sums: list[float] = []
    for one, other in zip(left, right, strict=True):
        assert (one.tokens, one.boundary, one.bytes) == (other.tokens, other.boundary, other.bytes)
        assert one.per_token is not None
        assert other.per_token is not None
        apart += [abs(a - b) for a, b in zip(one.per_token, other.per_token, strict=True)]
        of_sums.append(abs(one.sum_nats - other.sum_nats) / one.tokens)
    return Difference(max(apart), sum(apart) / len(apart), len(apart), max(of_sums))
