"""Chats as contexts: the model's template, no thinking, and the answer by itself."""

import pytest

from kshot.clients.scorers.base import Boundary, Chat, Message, Pair, Scored, ScoringMode, ScoringOptions
from kshot.clients.scorers.boundary import split
from kshot.clients.scorers.special_tokens import SpecialTokens
from kshot.clients.scorers.tokenization import run_locally
from kshot.testing import ToyCompletionServer, ToyTokenizer
from kshot.testing.toy_tokenizer import BOS, EOS
from tests.test_clients.test_scorers.toy import exact_nats, local, scorer_of

SPECIAL = SpecialTokens(prefix=(BOS,), start=BOS, end="</s>")


def chat(*contents, switches="{}"):
    roles = ["system", "user", "assistant"] * 5
    return Chat(
        messages=tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False)),
        template_switches=switches,
    )


def divided(context, *completions, boundary=None, terminator="none", **tokenizer):
    flow = split(context, completions, special=SPECIAL, boundary=boundary, terminator=terminator)
    return local(flow, **tokenizer)


HELLO = chat("Be brief.", "Ans")
HELLO_TEXT = "<s>Be brief.\n<|user|>Ans\n"


def test_the_answer_is_tokenised_by_itself_after_what_the_template_wrote():
    toy = ToyTokenizer()
    one, other = divided(HELLO, "wer", "\nno")
    before = toy.encode(HELLO_TEXT, add_special_tokens=False)
    assert before[0] == BOS
    assert before[1] != BOS
    assert (one.context, one.completion) == (before, toy.encode("wer", add_special_tokens=False))
    # As a text the two line breaks would be one token.
    assert other.completion == toy.encode("\nno", add_special_tokens=False)
    assert (one.boundary, one.lossy, one.bytes) == (Boundary.SEPARATE, False, 3)
    (end,) = divided(HELLO, "wer", terminator="eot")
    assert end.completion[-1] == EOS


def test_where_the_answer_alone_would_read_otherwise_both_are_one_text():
    for one in divided(HELLO, "yes", "no", leading_space=True):
        assert one.boundary is Boundary.JOINT
        assert not one.lossy
    (joint,) = divided(HELLO, "\nno", boundary=Boundary.JOINT)
    whole = ToyTokenizer().encode(HELLO_TEXT + "\nno", add_special_tokens=False)
    assert joint.context + joint.completion == whole
    assert joint.boundary is Boundary.JOINT


def test_token_ids_may_answer():
    (one,) = divided(HELLO, (50, 60))
    assert (one.completion, one.boundary) == ((50, 60), Boundary.IDS)
    assert one.context == ToyTokenizer().encode(HELLO_TEXT, add_special_tokens=False)
    (refused,) = divided(HELLO, "no", boundary=Boundary.IDS)
    assert refused.code == "invalid_parameter"


def test_thinking_is_switched_off_and_refused_where_it_cannot_be():
    (one,) = divided(HELLO, "no", thinking="unless_told")
    assert one.context == divided(HELLO, "no")[0].context
    (always,) = divided(HELLO, "no", thinking="always")
    assert always.code == "invalid_parameter"
    assert "thought" in always.message
    (asked,) = divided(chat("s", "u", switches='{"enable_thinking": true}'), "no", thinking="unless_told")
    assert asked.code == "invalid_parameter"


def test_other_switches_reach_the_template():
    (one,) = divided(chat("s", "u", switches='{"preface": "An"}'), "no")
    assert one.context == ToyTokenizer().encode("<s>Ans\n<|user|>u\n", add_special_tokens=False)


@pytest.mark.parametrize(
    "bad",
    [
        Chat(messages=()),
        chat("\ud800"),
        chat("s", switches="[]"),
        chat("s", switches="{"),
        chat("s", switches='{"chat_template": "{{ 1 }}"}'),
        chat("s", switches='{"tokenize": true}'),
    ],
)
def test_chats_that_are_none_are_refused(bad):
    (refused,) = divided(bad, "no")
    assert refused.code in {"invalid_input", "invalid_parameter"}
    assert divided(HELLO, "", "\ud800")[0].code == "invalid_input"


async def test_a_server_writes_chats_by_its_own_template():
    server = ToyCompletionServer(tokenizer=ToyTokenizer(thinking="unless_told"))
    pairs = [Pair(context=HELLO, completion=word) for word in ("wer", "no", " yes")]
    fed = server.tokenizer.encode(HELLO_TEXT, add_special_tokens=False)
    async with scorer_of(server) as scorer:
        for mode in (None, ScoringMode.ECHO, ScoringMode.TRIE):
            results = await scorer.score_batch(pairs, ScoringOptions(mode=mode))
            for one, word in zip(results, ("wer", "no", " yes"), strict=True):
                own = server.tokenizer.encode(word, add_special_tokens=False)
                assert isinstance(one, Scored)
                assert one.sum_nats == pytest.approx(exact_nats(server, fed, own), abs=1e-9)
                assert one.boundary is Boundary.SEPARATE


async def test_a_chat_without_a_template_stops_no_other():
    pairs = [Pair(context=HELLO, completion="no"), Pair(context="Q", completion=" no")]
    for settings in ({}, {"tokenizer": ToyTokenizer()}):
        server = ToyCompletionServer()
        server.faults.no_chat_template = True
        async with scorer_of(server, **settings) as scorer:
            first, second = await scorer.score_batch(pairs)
        assert isinstance(second, Scored)
        # A tokenizer in this process brings its own.
        assert isinstance(first, Scored) if settings else first.code == "invalid_input"
    odd = Chat(messages=(Message(role="narrator", content="x"),))
    async with scorer_of(ToyCompletionServer()) as scorer:
        refused, _ = await scorer.score_batch([Pair(context=odd, completion="no"), pairs[1]])
    assert refused.code == "invalid_input"
    assert "the model has no template for chats, or it takes no such messages" in refused.message


async def test_a_local_tokenizer_without_a_template_leaves_chats_to_the_server():
    class Plain:
        def __init__(self):
            self.toy = ToyTokenizer()

        def encode(self, text, *, add_special_tokens):
            return self.toy.encode(text, add_special_tokens=add_special_tokens)

        def decode(self, ids):
            return self.toy.decode(ids)

    server = ToyCompletionServer()
    async with scorer_of(server, tokenizer=Plain()) as scorer:
        (one,) = await scorer.score_batch([Pair(context=HELLO, completion="no")])
    assert isinstance(one, Scored)
    with pytest.raises(Exception, match="no template"):
        run_locally(split(HELLO, ["no"], special=SPECIAL), Plain())
