"""Chats and contexts that lose demonstrations, with a model in this process, beside plain forward passes."""

import pytest

from kshot.clients.scorers.base import Boundary, Chat, Message, NotScored, Pair, Parts, Scored, ScoringOptions
from kshot.clients.scorers.transformers_scorer import TransformersScorer
from tests.test_clients.test_scorers.tiny_model import Oracle, make_tiny_model

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'narrator' %}{{ raise_exception('no narrators') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}{% if tone %} {{ tone }}{% endif %}"
    "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}\n"
)
HELLO = (Message(role="user", content="the answer"),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = make_tiny_model(tmp_path_factory.mktemp("chatty"))
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture(scope="module")
def oracle(folder):
    return Oracle(folder)


@pytest.fixture
async def scorer(folder):
    scorer = TransformersScorer(str(folder))
    yield scorer
    await scorer.close()


async def test_a_chat_is_written_by_the_models_template_and_answered_by_itself(scorer, oracle):
    switched = Chat(messages=HELLO, template_switches='{"tone": "the"}')
    pairs = [
        Pair(context=chat, completion=word)
        for chat in (Chat(messages=HELLO), switched)
        for word in ("ing", "wer", "\nx")
    ]
    results = await scorer.score_batch(pairs)
    # The template's last line break is none of the text's.
    starts = ["[user] the answer\n[assistant]", "[user] the answer\n[assistant] the"]
    for one, (start, word) in zip(
        results, ((start, pair.completion) for start in starts for pair in pairs[:3]), strict=True
    ):
        assert isinstance(one, Scored)
        assert one.boundary is Boundary.SEPARATE
        exact = oracle.token_nats(oracle.encode(start), oracle.encode(str(word)))
        assert one.sum_nats == pytest.approx(sum(exact), abs=1e-4)


@pytest.mark.parametrize(
    ("chat", "code"),
    [
        (Chat(messages=(Message(role="narrator", content="x"),)), "invalid_input"),
        (Chat(messages=HELLO, template_switches='{"enable_thinking": true}'), "invalid_parameter"),
        (Chat(messages=HELLO, template_switches='{"tokenize": true}'), "invalid_parameter"),
    ],
)
async def test_chats_that_are_none_stop_no_other(scorer, chat, code):
    bad, good = await scorer.score_batch(
        [Pair(context=chat, completion="x"), Pair(context="the", completion=" answer")]
    )
    assert bad.code == code
    assert "narrator" not in bad.message
    assert isinstance(good, Scored)


async def test_a_model_without_a_template_says_so(tmp_path):
    scorer = TransformersScorer(str(make_tiny_model(tmp_path)))
    (refused,) = await scorer.score_batch([Pair(context=Chat(messages=HELLO), completion="x")])
    await scorer.close()
    assert isinstance(refused, NotScored)
    assert refused.code == "invalid_input"
    assert "no template" in refused.message


async def test_a_template_that_always_thinks_is_refused(tmp_path):
    folder = make_tiny_model(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<think>\n")
    scorer = TransformersScorer(str(folder))
    (refused,) = await scorer.score_batch([Pair(context=Chat(messages=HELLO), completion="x")])
    await scorer.close()
    assert isinstance(refused, NotScored)
    assert refused.code == "invalid_parameter"


async def test_demonstrations_are_dropped_until_the_window_is_enough(scorer, oracle):
    shots = tuple(f"{number}" * 30 + "\n" for number in range(6))
    context = Parts(instruction="the ", demonstrations=shots, query="q: the")
    options = [" answer", "xyz" * 9]
    pairs = [Pair(context=context, completion=word) for word in options]
    results = await scorer.score_batch(pairs, ScoringOptions(on_overflow="drop_demos"))
    # 127 tokens fit: three demonstrations of 31, and 34 of the rest; a fourth does not.
    kept = "the " + "".join(shots[3:]) + "q: the"
    for one, word in zip(results, options, strict=True):
        assert isinstance(one, Scored)
        whole = oracle.encode(kept + word)
        exact = oracle.token_nats(whole[: -one.tokens], whole[-one.tokens :])
        assert one.sum_nats == pytest.approx(sum(exact), abs=1e-4)
        assert (one.dropped_demonstrations, one.dropped, one.truncated) == (3, 3 * 31, True)
