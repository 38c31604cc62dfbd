"""What is asked of scorers that share one real model, and helpers to ask it."""

import random
from collections.abc import Sequence

from kshot.clients.scorers.base import Pair, Scored, Scorer, ScoringOptions

REVIEWS = [
    ("The food was cold and the waiter rude.", "negative"),
    ("A lovely evening, we will come back.", "positive"),
    ("Overpriced and far too loud.", "negative"),
    ("The best pasta in town.", "positive"),
    ("Nothing special, but the service was quick.", "neutral"),
    ("My soup had a hair in it.", "negative"),
]
LABELS = (" positive", " negative", " neutral", " not sure")
SHOTS = "".join(f"Review: {text}\nSentiment: {label}\n\n" for text, label in REVIEWS)
PROMPTS = [
    f"{SHOTS}Review: {text}\nSentiment:" for text in ("I loved every bite.", "Never again!", "It was fine.")
]
FACTS = [
    ("The capital of France is", " Paris", " banana"),
    ("Water freezes at zero degrees", " Celsius", " tomatoes"),
    ("Monday, Tuesday, Wednesday,", " Thursday", " guitar"),
]


def pairs() -> list[Pair]:
    """Labels of several tokens after long prompts that start alike, and short facts."""
    labelled = [Pair(context=prompt, completion=label) for prompt in PROMPTS for label in LABELS]
    facts = [Pair(context=fact, completion=word) for fact, *words in FACTS for word in words]
    return labelled + facts


async def scored(
    scorer: Scorer,
    asked: Sequence[Pair],
    options: ScoringOptions = ScoringOptions(),  # noqa: B008  frozen
) -> list[Scored]:
    """Score pairs, each of which can be."""
    results = await scorer.score_batch(asked, options)
    assert all(isinstance(one, Scored) for one in results), results
    return [one for one in results if isinstance(one, Scored)]


def shuffled(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
