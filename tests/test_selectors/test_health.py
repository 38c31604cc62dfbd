"""Pool health: duplicates, doubtful labels and rare labels, each counted once more by hand or by loops."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.health import label_balance, near_duplicate_rows, suspected_labels
from tests.strategies import grid


def cosine(vectors, i, j):
    return float(np.dot(vectors[i].astype(np.float64), vectors[j].astype(np.float64)))


def slow_suspects(vectors, labels, k, agreement, own):
    """Let the k nearest labelled rows of each labelled row vote, one by one."""
    found = []
    labelled = [i for i in range(len(labels)) if labels[i] >= 0]
    for i in labelled:
        others = sorted((j for j in labelled if j != i), key=lambda j: (-cosine(vectors, i, j), j))[:k]
        votes = Counter(int(labels[j]) for j in others)
        mine = votes.pop(int(labels[i]), 0)
        if not votes:
            continue
        best = min(votes, key=lambda label: (-votes[label], label))
        if votes[best] / k >= agreement and mine / k <= own:
            near = [cosine(vectors, i, j) for j in others if labels[j] == best]
            found.append((i, best, votes[best] / k, sum(near) / len(near)))
    return sorted(found, key=lambda one: (-one[2], -one[3], one[0]))


@st.composite
def labelled_rows(draw):
    """Random directions, so that no two cosines tie, with few labels."""
    seed = draw(st.integers(0, 9999))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(1, 40))
    return unit_rows(rng.standard_normal((n, 3))), rng.integers(-1, 3, n)


@given(
    rows=labelled_rows(),
    k=st.integers(1, 8),
    agreement=st.sampled_from([0.25, 0.5, 0.6, 1.0]),
    own=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_suspects_are_those_of_counting_votes(rows, k, agreement, own):
    vectors, labels = rows
    found = suspected_labels(vectors, labels, k=k, agreement=agreement, own=own)
    wanted = slow_suspects(vectors, labels, k, agreement, own)
    assert found.rows.tolist() == [one[0] for one in wanted]
    assert found.labels.tolist() == [labels[one[0]] for one in wanted]
    assert found.suggested.tolist() == [one[1] for one in wanted]
    assert found.agreement.tolist() == pytest.approx([one[2] for one in wanted])
    assert found.similarity.tolist() == pytest.approx([one[3] for one in wanted], abs=1e-6)
    assert found.measured == np.count_nonzero(labels >= 0)


def test_one_wrong_label_in_a_cluster_is_found_and_put_right():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3), 20, axis=0)
    vectors = unit_rows(centres + 0.1 * rng.standard_normal((60, 3)))
    labels = np.repeat([0, 1, 2], 20)
    labels[[5, 47]] = [2, 1]
    found = suspected_labels(vectors, labels)
    assert sorted(found.rows.tolist()) == [5, 47]
    assert dict(zip(found.rows.tolist(), found.suggested.tolist(), strict=True)) == {5: 0, 47: 2}


def test_a_share_is_of_k_so_that_few_rows_accuse_nobody():
    vectors = unit_rows(np.ones((6, 2)))
    # Five neighbours of ten agree: half of k, though all there are.
    assert len(suspected_labels(vectors, [0, 0, 0, 0, 0, 1], agreement=0.6)) == 0
    assert suspected_labels(vectors, [0, 0, 0, 0, 0, 1], agreement=0.5).rows.tolist() == [5]


def test_six_of_ten_are_enough_for_six_tenths():
    # Row 0 has ten neighbours: six say 1, four say 2.
    vectors = unit_rows(np.ones((11, 2)))
    found = suspected_labels(vectors, [0, *[1] * 6, *[2] * 4], agreement=0.6, rows=[0])
    assert found.agreement.tolist() == [0.6]


def test_of_labels_with_equally_many_votes_the_lowest_is_suggested():
    vectors = unit_rows(np.ones((5, 2)))
    found = suspected_labels(vectors, [9, 4, 4, 2, 2], k=4, agreement=0.5, rows=[0])
    assert found.suggested.tolist() == [2]


def test_only_the_rows_asked_for_are_looked_at_and_rows_without_label_are_passed_over():
    vectors = unit_rows(np.ones((12, 2)))
    labels = np.array([1, 1, -1, *[0] * 9])
    found = suspected_labels(vectors, labels, rows=[1, 2], agreement=0.5, own=0.1)
    assert found.rows.tolist() == [1]
    assert found.measured == 1


def test_no_labels_no_suspects():
    found = suspected_labels(np.eye(3), np.full(3, -1))
    assert (len(found), found.measured) == (0, 0)


@given(vectors=grid((7, 3), -2, 2), threshold=st.sampled_from([0.5, 0.95, 1.0]))
def test_the_rate_is_the_share_of_rows_with_a_close_other_row(vectors, threshold):
    unit = unit_rows(vectors + np.array([0.25, 0.0, 0.0]))
    best = [max(cosine(unit, i, j) for j in range(7) if j != i) for i in range(7)]
    assert near_duplicate_rows(unit, threshold=threshold).rate * 7 == pytest.approx(
        sum(one >= threshold - 1e-6 for one in best)
    )


def test_pairs_come_once_and_the_most_similar_first():
    vectors = unit_rows(np.array([[1, 0], [1, 0.01], [0, 1], [0, 1], [1, 1]]))
    found = near_duplicate_rows(vectors)
    assert found.rate == 4 / 5
    assert [(row, other) for row, other, _ in found.pairs(9)] == [(2, 3), (0, 1)]
    assert found.pairs(1) == found.pairs(9)[:1]
    assert found.pairs(9)[1][2] == pytest.approx(1 / math.sqrt(1.0001), abs=1e-6)


def test_a_sample_is_compared_with_all_rows():
    vectors = unit_rows([[1, 0], [0, 1], [1, 0]])
    assert near_duplicate_rows(vectors, rows=[2]).rate == 1
    assert near_duplicate_rows(vectors, rows=[1]).rate == 0
    assert near_duplicate_rows(vectors[:1]).rate == 0
    assert near_duplicate_rows(vectors, rows=np.empty(0, np.int64)).rate == 0


def test_balance_by_hand():
    # Shares 1/2, 1/4, 1/4: entropy 3/2 bits, of log2(3) at most.
    found = label_balance([0, 0, 5, 7, -1])
    assert (found.labels, found.labelled, found.smallest, found.largest) == (3, 4, 1, 2)
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.evenness == pytest.approx(1.5 / math.log2(3))


@given(labels=grid(st.integers(0, 30), -1, 4))
def test_balance_keeps_its_bounds(labels):
    found = label_balance(labels.astype(np.int64))
    assert 0 <= found.entropy <= math.log(max(found.labels, 1)) + 1e-12
    assert 0 <= found.evenness <= 1
    assert found.smallest <= found.largest


def test_one_label_and_none_are_even():
    assert label_balance([3, 3]) == label_balance([0, 0])
    assert (label_balance([3, 3]).entropy, label_balance([3, 3]).evenness) == (0, 1)
    assert label_balance([]).labels == label_balance([-1]).labels == 0


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"agreement": 0.0}, "agreement is 0.0"),
        ({"agreement": 1.1}, "agreement is 1.1"),
        ({"own": 1.0}, "own is 1.0"),
        ({"own": -0.1}, "own is -0.1"),
        ({"k": 0}, "k is 0"),
    ],
)
def test_parameters_outside_their_range_are_refused(parameters, problem):
    with pytest.raises(InvalidParameter, match=problem):
        suspected_labels(np.eye(2), [0, 1], **parameters)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InvalidParameter, match="threshold is 0"):
        near_duplicate_rows(np.eye(2), threshold=0)
    with pytest.raises(InvalidShape, match="labels have dtype float64"):
        suspected_labels(np.eye(2), [0.5, 1.0])
    with pytest.raises(InvalidShape, match="labels has shape"):
        suspected_labels(np.eye(2), [0])
