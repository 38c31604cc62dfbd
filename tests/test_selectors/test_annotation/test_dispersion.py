"""Dispersion: the running sum against sums computed anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import k_center, max_sum_dispersion
from tests.test_selectors.test_annotation.graphs import (
    Reports,
    Stopped,
    crowded_rows,
    random_rows,
    scaled,
)


def dispersion(vectors, chosen):
    return sum(1 - float(vectors[a] @ vectors[b]) for i, a in enumerate(chosen) for b in chosen[:i])


def test_a_row_close_to_one_pick_is_taken_if_it_is_far_from_the_others():
    # Labelled at 0, 180 and 180 degrees. At 10 degrees the cosines add up to cos 10 - 2 cos 10, at 90 to 0.
    angles = np.deg2rad([0, 180, 180, 90, 10])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    picks = max_sum_dispersion(vectors, 2, labelled=np.arange(3))
    assert picks.indices.tolist() == [4, 3]
    assert picks.gains.tolist() == pytest.approx([3 + np.cos(angles[4]), 4 - np.cos(np.deg2rad(80))])
    assert k_center(vectors, 1, labelled=np.arange(3)).indices.tolist() == [3]


@given(vectors=crowded_rows(), data=st.data())
def test_the_running_sum_is_the_sum(vectors, data):
    n = len(vectors)
    labelled = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))
    picks = max_sum_dispersion(vectors, n, labelled=np.array(labelled, np.int64))
    unit, chosen = scaled(vectors), labelled
    assert sorted([*picks.indices.tolist(), *labelled]) == list(range(n))
    for pick, gain in zip(picks.indices.tolist(), picks.gains.tolist(), strict=True):
        left = [i for i in range(n) if i not in chosen]
        if chosen:
            together = {i: float(np.sum(unit[chosen] @ unit[i])) for i in left}
            assert together[pick] == pytest.approx(min(together.values()), abs=1e-9)
        grown = dispersion(unit, [*chosen, pick]) - dispersion(unit, chosen)
        assert gain == pytest.approx(grown, abs=1e-9)
        chosen = [*chosen, pick]


@pytest.mark.parametrize("seed", range(5))
def test_long_plans_do_not_drift(seed):
    vectors = random_rows(seed, n=300, d=20)
    picks = max_sum_dispersion(vectors, 300)
    unit = scaled(vectors.astype(np.float64))
    chosen = picks.indices[:299]
    last = picks.indices[299]
    assert picks.gains[299] == pytest.approx(299 - np.sum(unit[chosen] @ unit[last]), abs=1e-9)


def test_the_first_is_the_row_nearest_to_the_mean_or_drawn():
    vectors = random_rows(6, n=50)
    mean_first = max_sum_dispersion(vectors, 5)
    assert mean_first.indices[0] == np.argmax(vectors @ vectors.mean(axis=0))
    drawn = {int(max_sum_dispersion(vectors, 1, start="random", seed=seed).indices[0]) for seed in range(200)}
    assert len(drawn) > 40
    again = [max_sum_dispersion(vectors, 9, start="random", seed=4).indices.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_equal_rows_are_taken_in_their_order():
    crowd = np.repeat(random_rows(7, n=3, d=30), 6, axis=0)
    picked = max_sum_dispersion(crowd, 18).indices.tolist()
    for start in (0, 6, 12):
        assert [i for i in picked if start <= i < start + 6] == list(range(start, start + 6))


def test_progress_is_reported_and_may_be_stopped():
    reports = Reports()
    max_sum_dispersion(random_rows(3, n=9), 3, report=reports)
    assert reports.seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Stopped):
        max_sum_dispersion(random_rows(3, n=9), 4, report=Reports(stop_after=2))


def test_senseless_input_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        max_sum_dispersion(np.eye(2), 0)
    with pytest.raises(InvalidParameter, match="start is 'middle'"):
        max_sum_dispersion(np.eye(2), 1, start="middle")  # type: ignore[arg-type]  # refused at run time
    for vectors in ([1.0], [[np.nan, 0.0]], [[0.0, 0.0]]):
        with pytest.raises(InvalidShape, match="vectors"):
            max_sum_dispersion(vectors, 1)
    assert len(max_sum_dispersion(np.empty((0, 3)), 1)) == 0
