"""Exact neighbours of some rows: against sorting every row, and in blocks and groups of every size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import nearest as module
from kshot.selectors.nearest import nearest_rows


def slow_nearest(vectors, row, k, among):
    """Sort all other rows by falling cosine, then by row."""
    others = [j for j in range(len(vectors)) if j != row and among[j]]
    return sorted(others, key=lambda j: (-float(np.dot(vectors[row], vectors[j])), j))[:k]


@st.composite
def signs(draw, most=90):
    """Rows of four signs: cosines are exact, and ties as common as can be."""
    n = draw(st.integers(1, most))
    seed = draw(st.integers(0, 999))
    return np.random.default_rng(seed).choice([-0.5, 0.5], (n, 4)).astype(np.float32)


@given(vectors=signs(), k=st.integers(1, 12), data=st.data())
def test_neighbours_are_those_of_sorting_every_row(vectors, k, data):
    n = len(vectors)
    among = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    rows = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=5))
    neighbours, similarities = nearest_rows(vectors, np.array(rows, np.int64), k, among=among)
    assert neighbours.shape == similarities.shape == (len(rows), k)
    for row, found, cosines in zip(rows, neighbours.tolist(), similarities.tolist(), strict=True):
        wanted = slow_nearest(vectors, row, k, among)
        assert found == wanted + [-1] * (k - len(wanted))
        assert cosines[: len(wanted)] == [float(vectors[row] @ vectors[j]) for j in wanted]
        assert np.isnan(cosines[len(wanted) :]).all()


def test_blocks_and_groups_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    vectors = unit_rows(rng.standard_normal((200, 6)))
    rows, among = rng.permutation(200)[:31], rng.random(200) < 0.7
    whole = nearest_rows(vectors, rows, 7, among=among)
    for row, found in zip(rows.tolist(), whole[0].tolist(), strict=True):
        assert found == slow_nearest(vectors, row, 7, among)
    seen = []
    monkeypatch.setattr(module, "_GROUP", 3)
    monkeypatch.setattr(module, "_BLOCK", 1500)
    parts = nearest_rows(vectors, rows, 7, among=among, report=lambda done, total: seen.append((done, total)))
    assert parts[0].tolist() == whole[0].tolist()
    np.testing.assert_allclose(parts[1], whole[1], rtol=0, atol=1e-6)
    assert len(seen) > 2
    assert seen[-1] == (31, 31)


def test_equal_rows_are_never_more_than_equal():
    vectors = unit_rows(np.repeat(np.random.default_rng(0).standard_normal((1, 384)), 5, axis=0))
    neighbours, similarities = nearest_rows(vectors, [2], 4)
    assert sorted(neighbours[0].tolist()) == [0, 1, 3, 4]
    assert similarities.max() <= 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InvalidParameter, match="k is 0"):
        nearest_rows(np.eye(2), [0], 0)
    with pytest.raises(InvalidShape, match="rows names rows 2 to 2"):
        nearest_rows(np.eye(2), [2], 1)
    with pytest.raises(InvalidParameter, match="names a row twice"):
        nearest_rows(np.eye(2), [0, 0], 1)
    with pytest.raises(InvalidShape, match="among has shape"):
        nearest_rows(np.eye(2), [0], 1, among=np.array([False]))
    with pytest.raises(InvalidShape, match="length zero"):
        nearest_rows(np.zeros((2, 2)), [0], 1)
