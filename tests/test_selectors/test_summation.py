"""Row sums that equal NumPy's to the last bit."""

import numpy as np
import pytest

from kshot.selectors.summation import row_sums


def exactly(rows):
    return np.array([np.ascontiguousarray(row, dtype=np.float64).sum() for row in rows])


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 31, 127, 128, 129, 136, 200, 300, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sum_is_that_of_each_row_alone_in_either_layout(length, dtype):
    matrix = np.random.default_rng(length).standard_normal((37, length)).astype(dtype)
    assert np.array_equal(row_sums(matrix), exactly(matrix))
    assert np.array_equal(row_sums(np.asfortranarray(matrix)), exactly(matrix))


@pytest.mark.parametrize("shape", [(60_000, 11), (3_000, 400)])
def test_many_rows_are_summed_in_blocks_without_a_seam(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    assert np.array_equal(row_sums(matrix), matrix.sum(axis=1))


def test_a_floor_raises_each_column():
    matrix = np.array([[1.0, 5.0, -2.0], [4.0, 0.0, 0.0]])
    assert row_sums(matrix, np.array([2.0, 1.0, -1.0])).tolist() == [2 + 5 - 1, 4 + 1 + 0]


def test_sums_of_float32_do_not_lose_digits():
    matrix = np.array([[1.0, 1e-9]], dtype=np.float32)
    assert row_sums(matrix)[0] > 1.0
