"""Lengths of outputs, read once per version."""

import numpy as np

from kshot.index.output_lengths import OUTPUT_LENGTH, OutputLengths
from tests.test_index.builders import header, published


class Reader:
    """Knows versions 1 to 9, each as long as ten times its number, and counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, seqs):
        self.asked.append(list(seqs))
        return [10 * seq if 0 < seq < 10 else None for seq in seqs]


def of(lengths, *seqs):
    array = np.array(seqs, np.int64)
    return lengths.of(array, array >= 0).tolist()


def test_each_version_is_read_once():
    reader = Reader()
    lengths = OutputLengths(reader)
    assert of(lengths, 3, 1, 2) == [30, 10, 20]
    assert of(lengths, 3, 1, 4) == [30, 10, 40]
    assert reader.asked == [[3, 1, 2], [4]]


def test_rows_that_are_not_live_or_erased_have_none():
    reader = Reader()
    lengths = OutputLengths(reader)
    np.testing.assert_array_equal(of(lengths, -1, 2, 77), [np.nan, 20, np.nan])
    assert reader.asked == [[2, 77]]
    # What is not live any more is forgotten; what could not be read is asked for again.
    of(lengths, -1, -1, 77)
    of(lengths, -1, 2, 77)
    assert reader.asked[1:] == [[77], [2, 77]]


def test_a_snapshot_gives_them_as_a_field_of_numbers(tmp_path):
    snapshot = published(tmp_path, map(header, range(1, 4))).snapshot
    # Nobody told this pool how to read outputs.
    assert np.isnan(snapshot.numbers(OUTPUT_LENGTH)).all()
