"""Contexts that are too long lose whole demonstrations: by trying every number, and in closed form."""

import random

import pytest

from kshot.clients.scorers.base import Boundary, Chat, Message, NotScored, Pair, Parts, Scored, ScoringOptions
from kshot.clients.scorers.boundary import Fed, split
from kshot.clients.scorers.dropping import Window, demonstrations, divide, without
from kshot.clients.scorers.special_tokens import learn_special_tokens
from kshot.testing import ToyCompletionServer, ToyTokenizer
from tests.test_clients.test_scorers.toy import exact_nats, local, ready, scorer_of

DROP = ScoringOptions(on_overflow="drop_demos")
SHOTS = tuple(f"Q{number}: who is {'x' * number}?\nA: no\n" for number in range(6))
CONTEXT = Parts(instruction="Say who.\n", demonstrations=SHOTS, query="Q: who is y?\nA:")


def window(tokens):
    return Window(tokens, local(learn_special_tokens()))


def divided(context, completions, tokens, options=DROP):
    return local(divide(context, completions, window(tokens), options))


def least_dropped(context, completions, tokens):
    """The fewest demonstrations without which all fit, by trying all numbers; None where no number does."""
    for number in range(demonstrations(context) + 1):
        fed = local(split(without(context, number), completions, special=window(tokens).special))
        if all(one.tokens <= tokens - 1 for one in fed):
            return number
    return None


@pytest.mark.parametrize("tokens", range(30, 130, 3))
def test_the_fewest_are_dropped_with_which_every_completion_fits(tokens):
    options = [" yes", " no", " nobody at all"]
    expected = least_dropped(CONTEXT, options, tokens)
    found = divided(CONTEXT, options, tokens)
    if expected is None:
        assert any(isinstance(one, NotScored) for one in found)
        return
    kept = local(split(without(CONTEXT, expected), options, special=window(tokens).special))
    full = local(split(CONTEXT, options, special=window(tokens).special))
    for one, of_kept, of_full in zip(found, kept, full, strict=True):
        assert (one.context, one.completion) == (of_kept.context, of_kept.completion)
        assert one.dropped_demonstrations == expected
        assert one.dropped == of_full.tokens - of_kept.tokens
        assert (one.dropped > 0) == (expected > 0)


def test_the_farthest_go_first_and_the_rest_stays():
    assert without(CONTEXT, 2).text == "Say who.\n" + "".join(SHOTS[2:]) + "Q: who is y?\nA:"
    assert without(CONTEXT, 6).text == "Say who.\nQ: who is y?\nA:"
    assert without("text", 3) == "text"


def test_a_completion_that_never_fits_makes_others_lose_no_more():
    long = "n" * 300
    short, too_long = divided(CONTEXT, [" no", long], 90)
    assert short == divided(CONTEXT, [" no"], 90)[0]
    assert short.dropped_demonstrations < 6
    assert too_long.code == "payload_too_large"
    # Where nothing fits, everybody says so.
    assert [one.code for one in divided(CONTEXT, [" no", long], 5)] == ["payload_too_large"] * 2


def test_bad_completions_do_not_count():
    empty, good = divided(CONTEXT, ["", " no"], 90)
    assert empty.code == "invalid_input"
    assert good == divided(CONTEXT, [" no"], 90)[0]


@pytest.mark.parametrize("context", ["x" * 200, Parts(instruction="x" * 200), (30,) * 200])
def test_without_demonstrations_what_is_too_long_is_refused(context):
    (refused,) = divided(context, [" no"], 100)
    assert refused.code == "payload_too_large"


def test_of_a_chat_whole_exchanges_are_dropped():
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    chat = Chat(messages=tuple(Message(role=role, content=f"{role} {i}") for i, role in enumerate(roles)))
    assert demonstrations(chat) == 2
    assert [one.content for one in without(chat, 1).messages] == [
        "system 0",
        "user 3",
        "assistant 4",
        "user 5",
    ]
    whole, _ = divided(chat, ["yes", "no"], 500)
    one, other = divided(chat, ["yes", "no"], whole.tokens)
    assert (one.dropped_demonstrations, other.dropped_demonstrations) == (1, 1)
    assert one.context == ToyTokenizer().encode_chat(
        [{"role": message.role, "content": message.content} for message in without(chat, 1).messages], {}
    )


def test_demonstrations_are_left_out_or_nothing_is():
    for overflow in ("error", "left"):
        (one,) = divided(CONTEXT, [" no"], 90, ScoringOptions(on_overflow=overflow))
        if overflow == "error":
            assert one.code == "payload_too_large"
        else:
            assert isinstance(one, Fed)
            assert (one.dropped_demonstrations, one.tokens) == (0, 89)


async def test_what_is_left_scores_as_in_closed_form():
    rng = random.Random(1)
    server = ToyCompletionServer(max_model_tokens=80)
    contexts = [
        Parts(
            instruction="An. ",
            demonstrations=tuple("no " * rng.randint(1, 9) + "\n" for _ in range(rng.randint(0, 9))),
            query=f"Q{number}:",
        )
        for number in range(40)
    ]
    pairs = [Pair(context=context, completion=" yes") for context in contexts]
    async with scorer_of(server) as scorer:
        await ready(scorer, server)
        results = await scorer.score_batch(pairs, DROP)
        shorter = [
            without(context, getattr(one, "dropped_demonstrations", 0))
            for context, one in zip(contexts, results, strict=True)
        ]
        again = await scorer.score_batch([Pair(context=context, completion=" yes") for context in shorter])
    assert {getattr(one, "truncated", None) for one in results} == {True, False}
    for context, one, other in zip(shorter, results, again, strict=True):
        assert isinstance(one, Scored)
        assert isinstance(other, Scored)
        fed = server.tokenizer.encode(context.text + " yes")
        assert one.sum_nats == pytest.approx(exact_nats(server, fed[:-1], fed[-1:]), abs=1e-9)
        assert one.truncated == (one.dropped_demonstrations > 0)
        assert (other.dropped, other.sum_nats) == (0, one.sum_nats)


async def test_completions_of_a_context_see_the_same_demonstrations_whatever_their_order():
    server = ToyCompletionServer(max_model_tokens=90)
    options = [" no", " yes", " nobody at all, " * 3]
    async with scorer_of(server) as scorer:
        one = await scorer.score_batch([Pair(context=CONTEXT, completion=o) for o in options], DROP)
        other = await scorer.score_batch([Pair(context=CONTEXT, completion=o) for o in options[::-1]], DROP)
        boundary = ScoringOptions(on_overflow="drop_demos", boundary=Boundary.SEPARATE)
        separate = await scorer.score_batch([Pair(context=CONTEXT, completion=o) for o in options], boundary)
    assert one == other[::-1]
    assert len({item.dropped_demonstrations for item in one}) == 1
    assert {item.boundary for item in separate} == {Boundary.SEPARATE}
