"""Random rows: uniform, in every order, and a smaller plan begins a larger one."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import random_rows

DRAWS = 10_000


def statistic(counts, cells):
    expected = DRAWS / len(cells)
    return sum((counts[cell] - expected) ** 2 / expected for cell in cells)


def test_every_set_in_every_order_is_equally_likely():
    cells = list(itertools.permutations((0, 1, 3, 4), 2))
    labelled = np.array([2])
    counts = Counter(
        tuple(random_rows(5, 2, seed, labelled=labelled).indices.tolist()) for seed in range(DRAWS)
    )
    assert set(counts) == set(cells)
    # One run in a thousand would fail by chance, were the seeds not fixed.
    assert statistic(counts, cells) < chi2.ppf(0.999, len(cells) - 1)


def test_one_generator_gives_ever_new_draws():
    rng = np.random.default_rng(1)
    cells = [(i,) for i in range(10)]
    counts = Counter(tuple(random_rows(10, 1, rng).indices.tolist()) for _ in range(DRAWS))
    assert statistic(counts, cells) < chi2.ppf(0.999, 9)


def test_the_seed_decides_and_smaller_plans_begin_larger_ones():
    whole = random_rows(30, 30, seed=3).indices.tolist()
    assert sorted(whole) == list(range(30))
    assert [random_rows(30, m, seed=3).indices.tolist() for m in (1, 7, 40)] == [whole[:1], whole[:7], whole]
    assert random_rows(30, 30, seed=4).indices.tolist() != whole


def test_nothing_is_maximised():
    picks = random_rows(9, 4, labelled=np.arange(3))
    assert picks.gains.tolist() == picks.scores.tolist() == [0, 0, 0, 0]
    assert (picks.indices >= 3).all()
    assert len(random_rows(0, 4)) == len(random_rows(2, 4, labelled=np.arange(2))) == 0


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        random_rows(3, 0)
    with pytest.raises(InvalidShape, match="labelled"):
        random_rows(3, 1, labelled=np.array([-1]))
