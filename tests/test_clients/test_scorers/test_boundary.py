"""Borders in tokens, against a search over all ways to divide the tokens of the whole text."""

import random
import re

import pytest

from kshot.clients.scorers.base import Boundary, NotScored
from kshot.clients.scorers.boundary import Fed, split
from kshot.clients.scorers.fitting import fit
from kshot.clients.scorers.special_tokens import SpecialTokens, learn_special_tokens
from kshot.clients.scorers.tokenization import run_locally
from kshot.testing import ToyTokenizer
from kshot.testing.toy_tokenizer import BOS, EOS, PIECES
from tests.test_clients.test_scorers.toy import local

JOINT, SEPARATE, HARNESS, IDS = Boundary.JOINT, Boundary.SEPARATE, Boundary.HARNESS, Boundary.IDS
TOKENIZERS = [{}, {"bos": False}, {"leading_space": True}, {"bos": False, "leading_space": True}]
WITH_BOS = SpecialTokens(prefix=(BOS,), start=BOS, end="</s>")


def special(**tokenizer):
    return local(learn_special_tokens(), **tokenizer)


def divide(context, *completions, tokenizer=None, boundary=None, terminator="none"):
    tokenizer = tokenizer or {}
    flow = split(context, completions, special=special(**tokenizer), boundary=boundary, terminator=terminator)
    return local(flow, **tokenizer)


def flags(results):
    return [one.lossy for one in results]


def fitted(fed, **settings):
    return fit(fed, **settings)


def ids_of(*pieces):
    return tuple(PIECES.index(piece) for piece in pieces)


def brute_force_joint(context, completions, **tokenizer):
    """The longest beginning that is common to the context and to every whole text, by trying all."""
    toy = ToyTokenizer(**tokenizer)
    start = (BOS,)
    before = toy.encode(context.rstrip(), add_special_tokens=False)
    whole = [toy.encode(context + one, add_special_tokens=False) for one in completions]
    if toy.bos or not before:
        before, *whole = [ids if ids[:1] == start else start + ids for ids in (before, *whole)]
    lengths = [
        k for k in range(len(before) + 1) if all(ids[:k] == before[:k] and len(ids) > k for ids in whole)
    ]
    k = max(lengths)
    return [(ids[:k] or start, ids[k:]) for ids in whole]


def test_markers_are_learned():
    assert special() == WITH_BOS
    # Without BOS a completion without context starts as a text would.
    assert special(bos=False) == SpecialTokens(prefix=(), start=BOS, end="</s>")
    assert local(learn_special_tokens("<|user|>")).end == "<|user|>"
    assert local(learn_special_tokens("two tokens")).end is None


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("seed", range(40))
def test_joint_is_the_longest_common_beginning(tokenizer, seed):
    rng = random.Random(seed)
    parts = ["Ans", "wer", "yes", " ", ": ", "?\n", "New", " York", "é", "A", "n", "no", "  ", "<s>", "x"]
    context = "".join(rng.choices(parts, k=rng.randint(0, 6)))
    options = list({"".join(rng.choices(parts, k=rng.randint(1, 4))) for _ in range(4)})
    found = divide(context, *options, tokenizer=tokenizer, boundary=JOINT)
    assert [(one.context, one.completion) for one in found] == brute_force_joint(
        context, options, **tokenizer
    )
    assert not any(one.lossy for one in found)
    order = rng.sample(range(len(options)), len(options))
    again = divide(context, *[options[i] for i in order], tokenizer=tokenizer, boundary=JOINT)
    assert again == [found[i] for i in order]


def test_a_word_that_merges_over_the_border_belongs_to_all_completions():
    merged, other = divide("Say Ans", "wer", "x")
    before = (BOS, *ids_of("S", "a", "y", " "))
    assert (merged.context, merged.completion) == (before, ids_of("Answer"))
    # It pays for "Ans" as well.
    assert (other.context, other.completion) == (before, ids_of("Ans", "x"))
    assert merged.boundary is JOINT


def test_harness_takes_what_comes_after_the_contexts_own_tokens():
    merged, other, space = divide("Say Ans", "wer", "x", " yes", boundary=HARNESS)
    assert merged == NotScored(
        code="invalid_input",
        message="the completion has no token of its own under boundary 'harness'; 'joint' has one",
    )
    before = (BOS, *ids_of("S", "a", "y", " ", "Ans"))
    assert (other.context, other.completion, other.lossy) == (before, ids_of("x"), False)
    assert (space.context, space.completion) == (before, ids_of(" yes"))
    # "Answer" is one token, so that "no" is all that is left, after tokens of another text.
    (odd,) = divide("Say Ans", "werno", boundary=HARNESS)
    assert (odd.context, odd.completion, odd.lossy) == (before, ids_of("n", "o"), True)


def test_spaces_at_the_end_of_a_context_go_to_the_completion():
    for boundary in (JOINT, HARNESS):
        (one,) = divide("Q ", "yes", boundary=boundary)
        assert (one.context, one.completion) == ((BOS, *ids_of("Q")), ids_of(" yes"))
        # Its length is that of the completion given.
        assert (one.characters, one.bytes) == (3, 3)


def test_an_empty_context_is_the_start_of_a_text():
    for tokenizer in ({}, {"bos": False}):
        for context in ("", "  "):
            (one,) = divide(context, "yes", tokenizer=tokenizer, boundary=JOINT)
            assert one.context == (BOS,)
        # Given once already.
        (one,) = divide("", "<s>yes", tokenizer=tokenizer, boundary=JOINT)
        assert (one.context, one.completion) == ((BOS,), ids_of("yes"))


def test_bos_is_put_once():
    (one,) = divide("<s>Q", " yes")
    assert one.context == (BOS, *ids_of("Q"))


def test_without_a_start_an_empty_context_has_no_score():
    flow = split("", ["yes"], special=SpecialTokens())
    (refused,) = local(flow, bos=False)
    assert refused.code == "invalid_input"


@pytest.mark.parametrize("context", ["Q: who?\n", "Hi<|user|>", "Hi</s>"])
def test_after_a_newline_or_a_special_token_both_sides_are_by_themselves(context):
    (one,) = divide(context, "\nno")
    toy = ToyTokenizer()
    assert one.boundary is SEPARATE
    assert one.context == toy.encode(context)
    assert one.completion == toy.encode("\nno", add_special_tokens=False)


def test_what_only_looks_special_does_not_count():
    assert [one.boundary for one in divide("Hi<user>", "no")] == [JOINT]


def test_a_completion_may_start_with_a_special_token():
    for boundary in (JOINT, SEPARATE, HARNESS):
        (one,) = divide("Q", "</s>no", boundary=boundary)
        assert (one.context, one.completion) == ((BOS, *ids_of("Q")), (EOS, *ids_of("n", "o")))


def test_separate_becomes_joint_where_a_tokenizer_would_put_a_space_between():
    options = ("yes", "no")
    for one in divide("Q:\n", *options, tokenizer={"leading_space": True}):
        assert one.boundary is JOINT
        assert not one.lossy
    for one in divide("Q:\n", *options):
        assert one.boundary is SEPARATE


def test_characters_of_several_tokens_survive():
    context, completion = "caf", "é ☃"
    for tokenizer in TOKENIZERS:
        for boundary in (JOINT, HARNESS):
            (one,) = divide(context, completion, tokenizer=tokenizer, boundary=boundary)
            # Two half bytes per byte, and a space.
            assert len(one.completion) == 4 + 1 + 6
            assert (one.bytes, one.characters, one.lossy) == (6, 3, False)


def test_a_tokenizer_that_loses_something_is_told_on():
    class Lossy(ToyTokenizer):
        def encode(self, text, *, add_special_tokens=True):
            return super().encode(text.lower(), add_special_tokens=add_special_tokens)

    flow = split("q", [" YES", " yes"], special=WITH_BOS)
    assert flags(run_locally(flow, Lossy())) == [True, False]


@pytest.mark.parametrize(("unknown", "instead"), [("[^a-z]", ""), ("<[^<>]*>", "?")])
def test_what_a_tokenizer_drops_or_merges_of_a_text_makes_no_marker_of_it(unknown, instead):
    # One token per character that is left: "<s>" is one, and "<s><s>" two.
    class Letters:
        def encode(self, text, *, add_special_tokens):
            return [ord(one) for one in re.sub(unknown, instead, text)]

        def decode(self, ids):
            return "".join(map(chr, ids))

    assert run_locally(learn_special_tokens("<|x|>"), Letters()) == SpecialTokens()
    (fed,) = run_locally(split("q <s>", ["y"], special=SpecialTokens()), Letters())
    assert isinstance(fed, Fed)
    assert fed.boundary is JOINT


def test_token_ids_are_fed_as_they_are():
    (one,) = divide((5, 6), (7, 8))
    assert (one.context, one.completion, one.boundary) == ((5, 6), (7, 8), IDS)
    (text,) = divide((50, 60), "yes")
    assert (text.context, text.completion) == ((50, 60), ids_of("yes"))
    (empty,) = divide((), (7,))
    assert empty.context == (BOS,)
    refused = divide("text", (7,), "text", boundary=IDS)
    assert [one.code for one in refused] == ["invalid_parameter"] * 2


def test_terminators_are_part_of_the_completion():
    (newline,) = divide("Q", " New", terminator="newline")
    assert newline.completion == ids_of(" New", "\n")
    assert (newline.characters, newline.bytes) == (5, 5)
    (end,) = divide("Q", " New", terminator="eot")
    assert end.completion == (*ids_of(" New"), EOS)
    (given,) = divide((50,), (60,), terminator="eot")
    assert given.completion == (60, EOS)
    flow = split("Q", ["x"], special=SpecialTokens(prefix=(BOS,), start=BOS), terminator="eot")
    assert [one.code for one in local(flow)] == ["invalid_parameter"]


def test_the_same_completion_twice_is_the_same():
    one, other = divide("Q", "x", "x")
    assert one == other


@pytest.mark.parametrize("keep", [0, 1])
def test_fitting_cuts_the_context_and_nothing_else(keep):
    fed = Fed(context=tuple(range(10)), completion=(90, 91), boundary=IDS, bytes=2, characters=2)
    # 12 tokens and the one that is generated.
    assert fitted(fed, max_model_tokens=13, on_overflow="error", keep=keep) == fed
    assert fitted(fed, max_model_tokens=12, on_overflow="error", keep=keep).code == "payload_too_large"
    cut = fitted(fed, max_model_tokens=8, on_overflow="left", keep=keep)
    assert (cut.context, cut.completion, cut.dropped) == (
        ((0, 6, 7, 8, 9) if keep else (5, 6, 7, 8, 9)),
        (90, 91),
        5,
    )
    # One token of context must stay.
    assert fitted(fed, max_model_tokens=4, on_overflow="left", keep=keep).context == ((0,) if keep else (9,))
    assert isinstance(fitted(fed, max_model_tokens=3, on_overflow="left", keep=keep), NotScored)
