"""Prompt orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors import PromptOrder, prompt_order

SCORES = [0.5, 0.9, 0.1, 0.5]


FROZEN_SHUFFLE = [0, 6, 7, 2, 4, 5, 1, 3]


def order(name, scores=SCORES, **facts):
    return prompt_order(name, scores, **facts).tolist()


def test_nearest_last_rises_and_ties_keep_pick_order():
    assert order("nearest_last") == [2, 0, 3, 1]


def test_nearest_first_falls_and_ties_keep_pick_order():
    assert order("nearest_first") == [1, 0, 3, 2]


def test_as_selected_is_pick_order():
    assert order("as_selected") == [0, 1, 2, 3]


def test_random_is_a_function_of_the_generator():
    first, again, other = (order("random", range(20), rng=np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_a_shuffle_is_the_same_in_every_process():
    # PCG64 and the shuffle made from it keep to their streams from one NumPy to the next.
    rng = np.random.Generator(np.random.PCG64(7))
    assert order("random", range(8), rng=rng) == FROZEN_SHUFFLE


def test_easy_to_hard_rises_in_difficulty():
    assert order("easy_to_hard", difficulty=[3, 1, 2, 1], lengths=[1, 2, 3, 4]) == [1, 3, 2, 0]


def test_easy_to_hard_takes_lengths_for_want_of_difficulties():
    assert order("easy_to_hard", lengths=[30, 10, 20, 10]) == [1, 3, 2, 0]


def test_label_interleaved_alternates_towards_the_most_relevant():
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    labels = [0, 0, 0, 1, 1, 1]
    assert order("label_interleaved", scores, labels=labels) == [5, 2, 4, 1, 3, 0]


def test_label_interleaved_spends_the_frequent_label_evenly():
    # Taking strict turns would end in 0 0; the frequent label has to come every second time.
    interleaved = order("label_interleaved", [0.9, 0.8, 0.7, 0.6, 0.5], labels=[0, 0, 0, 1, 2])
    assert interleaved == [2, 4, 1, 3, 0]


def test_label_interleaved_leaves_unavoidable_neighbours_far_from_the_query():
    interleaved = order("label_interleaved", [0.9, 0.8, 0.7, 0.6, 0.5], labels=[0, 0, 0, 0, 1])
    assert interleaved == [3, 2, 1, 4, 0]


def test_label_interleaved_lets_three_labels_take_turns():
    # The rest of label 1 is more relevant than that of label 0, but it is the turn of label 0.
    scores = [0.9, 0.3, 0.2, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1]
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    interleaved = order("label_interleaved", scores, labels=labels)
    assert [labels[i] for i in interleaved] == [2, 1, 0] * 3


def neighbours(labels):
    return sum(a == b for a, b in itertools.pairwise(labels))


@settings(max_examples=60)
@given(picks=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), min_size=1, max_size=6))
def test_no_order_with_the_same_last_row_has_fewer_equal_neighbours(picks):
    scores, labels = zip(*picks, strict=True)
    interleaved = order("label_interleaved", scores, labels=labels)
    last = interleaved[-1]
    assert scores[last] == max(scores)
    fewest = min(
        neighbours([labels[i] for i in (*others, last)])
        for others in itertools.permutations(i for i in range(len(picks)) if i != last)
    )
    assert neighbours([labels[i] for i in interleaved]) == fewest


@given(
    name=st.sampled_from(list(PromptOrder)),
    picks=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), max_size=9),
)
def test_every_order_is_a_permutation(name, picks):
    scores, labels = [score for score, _ in picks], [label for _, label in picks]
    rng = np.random.default_rng(0)
    arranged = prompt_order(name, scores, labels=labels, lengths=np.ones(len(picks)), rng=rng)
    assert arranged.dtype == np.int64
    assert sorted(arranged.tolist()) == list(range(len(picks)))


@given(scores=st.lists(st.integers(0, 5), min_size=1))
def test_nearest_last_puts_the_best_next_to_the_query(scores):
    assert scores[order("nearest_last", scores)[-1]] == max(scores)


@pytest.mark.parametrize(
    ("name", "need"), [("random", "generator"), ("easy_to_hard", "lengths"), ("label_interleaved", "labels")]
)
def test_what_an_order_needs_is_named(name, need):
    with pytest.raises(InvalidInput, match=need):
        order(name)


def test_an_unknown_order_is_answered_with_those_that_exist():
    with pytest.raises(
        InvalidParameter, match="received 'best', allowed nearest_last, nearest_first"
    ) as refusal:
        order("best")
    assert refusal.value.errors[0].pointer == "/order"


@pytest.mark.parametrize("fact", ["labels", "difficulty", "lengths"])
def test_facts_must_be_as_many_as_scores(fact):
    with pytest.raises(InvalidShape, match=fact):
        order("as_selected", **{fact: [1, 2]})
