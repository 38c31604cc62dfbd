"""Structures of texts: word sequences, dependency subtrees, syntax trees."""

import logging
import subprocess
import sys
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape, MissingDependency
from kshot.structures import dependencies, dependency_subtrees, ngrams, python_bigrams, structures_of
from kshot.structures.dependencies import MAX_DEPENDENTS
from kshot.structures.kinds import MAX_CHARS
from tests import oracles

NODE: tuple[Any, ...] = ()


# Word sequences


def test_word_sequences_are_lower_case_and_of_every_order_with_multiplicity():
    (found,) = structures_of(["To be, or to BE?"], "ngrams", max_words=3)
    assert Counter(found) == Counter(
        {
            ("to",): 2,
            ("be",): 2,
            ("or",): 1,
            ("to", "be"): 2,
            ("be", "or"): 1,
            ("or", "to"): 1,
            ("to", "be", "or"): 1,
            ("be", "or", "to"): 1,
            ("or", "to", "be"): 1,
        }
    )


def test_sequences_longer_than_a_text_do_not_exist():
    assert structures_of(["", "?!", "one two"], "ngrams") == [[], [], [("one",), ("two",), ("one", "two")]]


def test_tokens_of_another_splitting_are_taken_as_they_are():
    assert ngrams(["Hello,", "World!"], 2) == [("Hello,",), ("World!",), ("Hello,", "World!")]


def test_a_text_of_eight_thousand_words_has_four_sequences_per_word():
    (found,) = structures_of(["word " * 8_000], "ngrams")
    assert len(found) == 8_000 + 7_999 + 7_998 + 7_997


def test_sequences_of_no_words_are_refused():
    with pytest.raises(InvalidParameter, match="max_words is 0, allowed >= 1"):
        ngrams(["a"], 0)


# Dependency subtrees


def test_subtrees_of_a_sentence_by_hand():
    # the <- dog <- barked -> loudly
    found = dependency_subtrees(["the", "dog", "barked", "loudly"], [1, 2, 2, 2], max_nodes=3)
    the, loudly = ("the", NODE), ("loudly", NODE)
    dog = ("dog", (the,))
    of_one = [the, ("dog", NODE), ("barked", NODE), loudly]
    of_two = [dog, ("barked", (("dog", NODE),)), ("barked", (loudly,))]
    of_three = [("barked", (dog,)), ("barked", (("dog", NODE), loudly))]
    assert Counter(found) == Counter([*of_one, *of_two, *of_three])


@st.composite
def trees(draw):
    """Words with few distinct labels, each depending on an earlier one or on none."""
    heads = [-1] + [draw(st.integers(-1, word - 1)) for word in range(1, draw(st.integers(1, 8)))]
    order = draw(st.permutations(range(len(heads))))
    place = {word: order.index(word) for word in range(len(heads))}
    moved = [heads[word] if heads[word] < 0 else place[heads[word]] for word in order]
    return [draw(st.sampled_from("abc")) for _ in heads], moved


@settings(max_examples=100)
@given(tree=trees(), max_nodes=st.integers(1, 5))
def test_subtrees_are_the_connected_sets_of_words(tree, max_nodes):
    labels, heads = tree
    found = dependency_subtrees(labels, heads, max_nodes)
    assert Counter(found) == Counter(oracles.dependency_subtrees(labels, heads, max_nodes))
    sizes = [str(subtree).count("'") // 2 for subtree in found]
    assert sizes == sorted(sizes)


def test_dependents_beyond_the_tenth_are_left_out():
    wide = dependency_subtrees(["head", *"abcdefghijklmnopq"], [0] * 18, max_nodes=2)
    assert len(wide) == 18 + MAX_DEPENDENTS
    assert ("head", (("j", NODE),)) in wide
    assert ("head", (("k", NODE),)) not in wide


@pytest.mark.parametrize(
    ("heads", "count"),
    [
        # The head alone, and with 1, 2 and 3 of its first ten dependents.
        ([0] * 8_000, 7_999 + 1 + 10 + 45 + 120),
        ([max(word - 1, 0) for word in range(8_000)], 8_000 + 7_999 + 7_998 + 7_997),
    ],
    ids=["flat", "deep"],
)
def test_eight_thousand_words_have_a_bounded_number_of_subtrees(heads, count):
    assert len(dependency_subtrees(["w"] * 8_000, heads)) == count


def test_heads_that_run_in_a_circle_are_survived():
    assert ("a", (("b", NODE),)) in dependency_subtrees(["a", "b"], [1, 0])


@pytest.mark.parametrize(
    ("labels", "heads", "message"),
    [
        (["a"], [], "1 labels and 0 heads"),
        (["a", "b"], [0, 2], r"heads\[1\] is 2, allowed -1 to 1"),
        (["a"], [-2], r"heads\[0\] is -2"),
    ],
)
def test_heads_that_are_no_positions_are_refused(labels, heads, message):
    with pytest.raises(InvalidShape, match=message):
        dependency_subtrees(labels, heads)
    with pytest.raises(InvalidParameter, match="max_nodes is 0"):
        dependency_subtrees(["a"], [0], max_nodes=0)


class Token(SimpleNamespace):
    """What is read of a spaCy token."""


class Pipeline:
    """Parses like spaCy: every word hangs on the word before; marks are punctuation."""

    def pipe(self, texts, batch_size):
        for text in texts:
            document = [
                Token(i=i, lemma_=word, is_punct=word in {",", "."}, is_space=False)
                for i, word in enumerate(text.split())
            ]
            for token in document:
                token.head = document[max(token.i - 1, 0)]
            yield document


def test_dependencies_are_read_from_lemmas_without_punctuation(monkeypatch):
    monkeypatch.setattr(dependencies, "_pipeline", Pipeline)
    found = structures_of(["Big dog , bark", "", "x" * (MAX_CHARS + 1), "\ud800"], "dependencies")
    # `bark` hangs on the comma, so it is a tree of its own.
    assert found == [
        [("big", NODE), ("dog", NODE), ("bark", NODE), ("big", (("dog", NODE),))],
        [],
        [],
        [],
    ]


def test_what_no_space_divides_is_parsed_in_pieces(monkeypatch):
    monkeypatch.setattr(dependencies, "_pipeline", Pipeline)
    found: list[Any] = structures_of(["x" * 130 + " y"], "dependencies")[0]
    assert [label for label, below in found if not below] == ["x" * 64, "x" * 64, "xx", "y"]
    (whole,) = structures_of(["x" * 64], "dependencies")
    assert whole == [("x" * 64, NODE)]


def without(monkeypatch, module, stub=None):
    monkeypatch.setitem(sys.modules, module, stub)
    dependencies._pipeline.cache_clear()


def test_without_spacy_the_install_line_is_named(monkeypatch):
    without(monkeypatch, "spacy")
    with pytest.raises(MissingDependency, match=r'needs spacy, .*: pip install "kshot\[spacy\]"$'):
        structures_of(["a"], "dependencies")


def test_without_the_model_the_line_that_downloads_it_is_named(monkeypatch):
    def load(name, exclude):
        raise OSError(f"[E050] Can't find model '{name}'")

    without(monkeypatch, "spacy", SimpleNamespace(load=load))
    with pytest.raises(MissingDependency, match=r": python -m spacy download en_core_web_sm$"):
        structures_of(["a"], "dependencies")


# Syntax trees


def test_bigrams_of_a_python_program_by_hand():
    assert Counter(python_bigrams("def f(a):\n    return a + 1")) == Counter(
        [
            ("child", "Module", "FunctionDef"),
            ("child", "FunctionDef", "arguments"),
            ("child", "FunctionDef", "Return"),
            ("next", "arguments", "Return"),
            ("child", "arguments", "arg"),
            ("child", "Return", "BinOp"),
            ("child", "BinOp", "Name"),
            ("child", "BinOp", "Add"),
            ("child", "BinOp", "Constant"),
            ("next", "Name", "Add"),
            ("next", "Add", "Constant"),
        ]
    )


def test_names_and_constants_do_not_matter_to_a_syntax_tree():
    assert python_bigrams("x = f(1)") == python_bigrams("result = compute('two')") != []


DEEP = 100_000
HOSTILE = {
    "no program": "show me all flights",
    "unfinished": "def f(:",
    "parentheses": "(" * DEEP + ")" * DEEP,
    "minus": "-" * DEEP + "1",
    "sum": "1+" * DEEP + "1",
    "attributes": "a" + ".b" * DEEP,
    "calls": "f" + "()" * DEEP,
    "lambdas": "lambda:" * DEEP + "1",
    "power": "1**" * DEEP + "1",
    "elif": "if 1:\n pass\n" + "elif 1:\n pass\n" * DEEP,
    "digits": "9" * DEEP,
    "zero byte": "a\0b",
    "surrogate": "'\ud800'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_texts_that_python_cannot_parse_have_no_structures(text):
    # In a thread, as the server parses: its stack is smaller than the main thread's.
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(python_bigrams(text)))
    thread.start()
    thread.join()
    assert found == [[]]
    assert structures_of([text, "a = 1"], "ast_python")[0] == []


def test_a_program_of_eight_thousand_tokens_is_read():
    assert len(python_bigrams("x = 1\n" * 2_700)) == 2_700 * (1 + 2 + 1) + 2_699


def test_texts_that_are_too_long_are_not_parsed():
    text = "a=1\n" * (MAX_CHARS // 4)
    assert structures_of([text], "ast_python")[0] != []
    assert structures_of([text + "\n"], "ast_python") == [[]]


def test_a_warning_about_a_program_is_not_printed():
    code = r"from kshot.structures import python_bigrams; print(len(python_bigrams('x = \"\\d\"')))"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("4", "")


def test_bigrams_of_a_query_by_hand():
    (found,) = structures_of(["SELECT a FROM t"], "ast_sql")
    assert Counter(found) == Counter(
        [
            ("child", "select", "column"),
            ("child", "select", "from"),
            ("next", "column", "from"),
            ("child", "column", "identifier"),
            ("child", "from", "table"),
            ("child", "table", "identifier"),
        ]
    )


def test_several_statements_have_the_bigrams_of_all():
    one, other, both = structures_of(["SELECT 1", "SELECT a", "SELECT 1; SELECT a;"], "ast_sql")
    assert Counter(both) == Counter(one) + Counter(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@#$%^ {{{",
        "SELECT 'abc",
        "VACUUM FULL secrets",
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "NOT " * 20_000 + "1",
        "SELECT * FROM (" * 6_000,
        "SELECT '" + "x" * MAX_CHARS + "'",
        "SELECT '\ud800'",
    ],
    ids=["empty", "junk", "unfinished", "opaque", "parentheses", "not", "nested", "long", "surrogate"],
)
def test_texts_that_are_no_query_have_no_structures_and_are_not_logged(text, caplog):
    with caplog.at_level(logging.DEBUG):
        assert structures_of([text, "SELECT 1"], "ast_sql")[0] == []
    assert "secrets" not in caplog.text


def test_a_query_of_eight_thousand_tokens_is_read():
    (found,) = structures_of(["SELECT " + "a, " * 4_000 + "b"], "ast_sql")
    assert found.count(("child", "select", "column")) == 4_001
    assert found.count(("next", "column", "column")) == 4_000


def test_without_sqlglot_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(MissingDependency, match=r'needs sqlglot, .*: pip install "kshot\[sql\]"$'):
        structures_of(["SELECT 1"], "ast_sql")


def test_an_unknown_kind_is_answered_with_those_that_exist():
    kind: Any = "trigrams"
    with pytest.raises(
        InvalidParameter, match="structures are 'trigrams', allowed ngrams, dependencies, ast_python, ast_sql"
    ):
        structures_of(["a"], kind)
