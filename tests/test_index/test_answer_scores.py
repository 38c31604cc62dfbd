"""What a model said of answers: looked up by version, kept in a file, replaced as a whole."""

from pathlib import Path

import numpy as np
import pytest

from kshot.index.answer_scores import ANSWER_FIELDS, ANSWER_NLL, ANSWER_PERPLEXITY, AnswerScores, AnswerTable
from tests.test_index.builders import header, published

TABLE = AnswerTable("k", np.array([2, 5, 9]), np.array([-2.0, -np.inf, -6.0]), np.array([1, 2, 3]))
LARGEST = np.finfo(np.float64).max


def of(scores: AnswerScores, name: str, *seqs: int) -> list[float]:
    array = np.array(seqs, np.int64)
    numbers: list[float] = scores.of(name, array, array >= 0).tolist()
    return numbers


@pytest.mark.filterwarnings("error")
def test_numbers_are_finite_and_larger_where_an_answer_is_less_likely():
    assert TABLE.numbers(ANSWER_NLL).tolist() == [2.0, LARGEST, 6.0]
    # e^2 for one token, ruled out, and e^(6/3).
    assert TABLE.numbers(ANSWER_PERPLEXITY).tolist() == [np.exp(2), LARGEST, np.exp(2)]
    unlikely = AnswerTable("k", np.array([1]), np.array([-5000.0]), np.array([1]))
    assert unlikely.numbers(ANSWER_PERPLEXITY).tolist() == [LARGEST]


@pytest.mark.parametrize("path", [None, "answers.npz"])
def test_each_row_gets_the_number_of_its_version(tmp_path: Path, path: str | None):
    scores = AnswerScores(None if path is None else tmp_path / path)
    assert np.isnan(of(scores, ANSWER_NLL, 2, -1)).all()
    scores.replace(TABLE)
    np.testing.assert_array_equal(of(scores, ANSWER_NLL, 9, 3, 2, -1, 11), [6, np.nan, 2, np.nan, np.nan])
    assert scores.generation == 1
    scores.replace(AnswerTable.nothing())
    assert np.isnan(of(scores, ANSWER_NLL, 2)).all()


def test_the_file_outlives_the_process_and_leaves_nothing_beside_it(tmp_path: Path):
    AnswerScores(tmp_path / "answers.npz").replace(TABLE)
    again = AnswerScores(tmp_path / "answers.npz").table
    assert (again.key, again.seqs.tolist(), again.tokens.tolist()) == ("k", [2, 5, 9], [1, 2, 3])
    assert again.nats.tolist() == TABLE.nats.tolist()
    assert [one.name for one in tmp_path.iterdir()] == ["answers.npz"]


@pytest.mark.parametrize("damage", [b"", b"not a zip", "cut"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: bytes | str):
    path = tmp_path / "answers.npz"
    AnswerScores(path).replace(TABLE)
    path.write_bytes(path.read_bytes()[:-40] if isinstance(damage, str) else damage)
    scores = AnswerScores(path)
    assert not len(scores.table.seqs)
    scores.replace(TABLE)
    assert AnswerScores(path).table.seqs.tolist() == [2, 5, 9]


def test_what_cannot_be_written_changes_nothing(tmp_path: Path):
    scores = AnswerScores(tmp_path / "gone" / "answers.npz")
    with pytest.raises(OSError, match="gone"):
        scores.replace(TABLE)
    assert not len(scores.table.seqs)
    assert scores.generation == 0


def test_a_snapshot_reads_again_what_was_replaced(tmp_path: Path):
    snapshot = published(tmp_path, map(header, range(1, 4))).snapshot
    for name in ANSWER_FIELDS:
        assert np.isnan(snapshot.numbers(name)).all()
    snapshot.answer_scores.replace(TABLE)
    np.testing.assert_array_equal(snapshot.numbers(ANSWER_NLL), [np.nan, 2.0, np.nan])
    assert snapshot.numbers(ANSWER_NLL) is snapshot.numbers(ANSWER_NLL)
