"""What is remembered of a tokenizer takes so much memory and no more."""

from kshot.clients.scorers.base import Message
from kshot.clients.scorers.recent_answers import RecentAnswers, size_of
from kshot.clients.scorers.tokenization import Decode, Encode, EncodeChat

# 300 + 2 characters + 2 tokens of 36.
TWO_TOKENS = 374


def test_sizes_count_texts_and_tokens_on_both_sides():
    assert size_of(Encode("ab"), (1, 2)) == TWO_TOKENS
    assert size_of(Decode((1, 2)), "ab") == TWO_TOKENS
    # 300 + "{}" + "hello" + 3 tokens.
    assert size_of(EncodeChat((Message(role="user", content="hello"),), "{}"), (1, 2, 3)) == 415


def test_what_was_not_used_for_longest_is_forgotten_first():
    recent = RecentAnswers(3 * TWO_TOKENS)
    calls = [Encode(text) for text in ("aa", "bb", "cc", "dd")]
    for call in calls[:3]:
        recent.put(call, (1, 2))
    recent.put(calls[2], (1, 2))
    assert recent.bytes == 3 * TWO_TOKENS
    assert recent.get(calls[0]) == (1, 2)
    recent.put(calls[3], (3, 4))
    assert [recent.get(call) for call in calls] == [(1, 2), None, (1, 2), (3, 4)]
    assert recent.bytes == 3 * TWO_TOKENS


def test_a_text_that_is_too_long_is_not_kept_and_an_empty_answer_is():
    recent = RecentAnswers(1000)
    recent.put(Encode("a" * 1000), (1,))
    assert (recent.get(Encode("a" * 1000)), recent.bytes) == (None, 0)
    recent.put(Encode(""), ())
    assert recent.get(Encode("")) == ()
