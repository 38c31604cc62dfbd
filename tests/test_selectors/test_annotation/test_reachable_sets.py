"""Reverse-reachable sets: what they hold, and the influence that is read off them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from kshot.selectors import knn_graph
from kshot.selectors.annotation import reachable_sets
from kshot.selectors.annotation.cascade import activation_probabilities
from kshot.selectors.annotation.reachable_sets import ReachableSetSampler, _KeySet, _Marks, joined
from tests.oracles import influence, reach, simulated_cascade
from tests.test_selectors.test_annotation.graphs import random_rows

# Two hubs, a chain, a cycle and a row apart; 14 edges make 16,384 worlds.
EDGES = [
    (0, 1, 0.5), (0, 2, 0.4), (0, 3, 0.9), (1, 2, 0.3), (3, 4, 0.7), (4, 5, 0.6), (5, 3, 0.5),
    (6, 7, 0.8), (6, 8, 0.25), (7, 9, 0.5), (8, 9, 0.5), (9, 10, 1.0), (2, 6, 0.35), (10, 0, 0.1),
]  # fmt: skip


def matrix(edges, n):
    i, j, p = zip(*edges, strict=True)
    return csr_array((np.array(p, np.float64), (i, j)), shape=(n, n))


def draw(edges, n, count, seed=0):
    return ReachableSetSampler(matrix(edges, n)).draw(count, np.random.default_rng(seed))


def as_lists(sets):
    return [part.tolist() for part in np.split(sets.members, sets.offsets[1:-1])]


def mask(rows, n):
    chosen = np.zeros(n, bool)
    chosen[list(rows)] = True
    return chosen


def test_influence_is_that_of_all_worlds():
    # 400,000 sets: for a tenth of the 12 rows the standard error is 0.5 % of the estimate.
    sets = draw(EDGES, 12, 400_000)
    true = influence(EDGES, 12)
    for rows in [*((i,) for i in range(12)), (0, 6), (2, 4, 11), (5, 7, 9, 10)]:
        share = np.mean(sets.hit_by(mask(rows, 12)))
        assert 12 * share == pytest.approx(true(rows), rel=0.02)


def test_influence_is_that_of_simulated_cascades():
    graph = knn_graph(random_rows(0, 60), 6)
    probabilities = activation_probabilities(graph)
    edges = probabilities.ravel(), graph.indices.ravel(), np.arange(61) * 6
    sets = ReachableSetSampler(csr_array(edges, shape=(60, 60))).draw(60_000, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    for rows in ([3], [10, 20, 30]):
        sizes = [
            len(simulated_cascade(graph.indices.tolist(), probabilities.tolist(), rows, rng))
            for _ in range(4_000)
        ]
        estimate = 60 * np.mean(sets.hit_by(mask(rows, 60)))
        # Four standard errors of the simulation and of the sets together.
        error = np.hypot(np.std(sizes) / 4_000**0.5, 60 * 0.5 / 60_000**0.5)
        assert estimate == pytest.approx(np.mean(sizes), abs=4 * error)


@given(data=st.data(), n=st.integers(1, 12))
def test_along_certain_edges_a_set_is_all_that_reach_its_row(data, n):
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    drawn = data.draw(st.sets(pairs, min_size=1, max_size=20))
    certain = [(i, j, 1.0) for i, j in sorted(drawn)]
    # Edges that are never there are no hindrance.
    never = [(j, i, 0.0) for i, j in sorted(drawn) if (j, i) not in drawn]
    predecessors: dict[int, list[int]] = {}
    for i, j, _ in certain:
        predecessors.setdefault(j, []).append(i)
    expected = {tuple(sorted(reach(predecessors, row))) for row in range(n)}
    found = {tuple(sorted(members)) for members in as_lists(draw([*certain, *never], n, 600))}
    assert found == expected


def test_without_edges_a_set_is_its_row_drawn_uniformly():
    sets = draw([(0, 1, 0.0)], 10, 20_000, seed=3)
    assert len(sets.members) == len(sets) == 20_000
    # Expected 2,000 of each, with a standard deviation of 42.
    assert np.abs(np.bincount(sets.members, minlength=10) - 2_000).max() < 5 * 42


@given(data=st.data())
def test_coverage_is_monotone_and_submodular_on_one_sample(data):
    sets = draw(EDGES, 12, 500, seed=4)
    rows = data.draw(st.permutations(range(12)))
    small, large = sorted(data.draw(st.tuples(st.integers(0, 10), st.integers(0, 10))))
    row = rows[11]

    def covered(chosen):
        return int(sets.hit_by(mask(chosen, 12)).sum())

    gain_early = covered([*rows[:small], row]) - covered(rows[:small])
    gain_late = covered([*rows[:large], row]) - covered(rows[:large])
    assert covered(rows[:small]) <= covered(rows[:large])
    assert gain_early >= gain_late >= 0


def test_sets_by_member_are_members_by_set_turned_round():
    sets = joined([draw(EDGES, 12, 40, seed=5), draw(EDGES, 12, 7, seed=6)])
    lists = as_lists(sets)
    assert lists == as_lists(draw(EDGES, 12, 40, seed=5)) + as_lists(draw(EDGES, 12, 7, seed=6))
    offsets, own = sets.by_member(12)
    for row in range(12):
        assert own[offsets[row] : offsets[row + 1]].tolist() == [
            number for number, members in enumerate(lists) if row in members
        ]
    chosen = mask([2, 9], 12)
    assert sets.hit_by(chosen).tolist() == [2 in members or 9 in members for members in lists]


@pytest.mark.parametrize("make", [_KeySet, lambda expected: _Marks(3_000)])
@given(
    batches=st.lists(st.lists(st.integers(0, 2_999) | st.integers(0, 40), max_size=60), max_size=12),
    expected=st.integers(0, 40),
)
def test_a_key_is_new_once(make, batches, expected):
    present: set[int] = set()
    keys = make(expected)
    for batch in batches:
        new = keys.add(np.array(batch, np.int64))
        # Of equal ones the last counts.
        assert new.tolist() == [
            key not in present and key not in batch[place + 1 :] for place, key in enumerate(batch)
        ]
        present |= set(batch)


def test_a_full_table_grows():
    keys = _KeySet(1)
    for start in range(0, 100_000, 10_000):
        added = np.arange(start, start + 10_000) * 155_000
        assert keys.add(added).all()
        assert not keys.add(added).any()


def test_marked_and_hashed_keys_give_the_same_sets(monkeypatch):
    marked = draw(EDGES, 12, 2_000, seed=9)
    monkeypatch.setattr(reachable_sets, "_MARKED_KEYS", 0)
    hashed = draw(EDGES, 12, 2_000, seed=9)
    assert as_lists(marked) == as_lists(hashed)
    assert all(len(set(members)) == len(members) for members in as_lists(marked))
