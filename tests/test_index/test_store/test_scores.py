import math
from dataclasses import replace

import pytest

from kshot.records import ScoreRecord


def a_score(number, **changes):
    return replace(
        ScoreRecord(
            key=number.to_bytes(16, "big"),
            nats=-1.5 - number,
            tokens=3,
            bytes=9,
            characters=8,
            boundary="joint",
            mode="trie",
            greedy=None,
        ),
        **changes,
    )


def test_scores_come_back_as_they_were(store):
    written = [
        a_score(0, greedy=True, dropped=7, lossy=True),
        a_score(1, nats=-math.inf, greedy=False),
        a_score(2, per_token=(-0.1, -math.inf, -1e-300)),
        a_score(255, per_token=()),
    ]
    store.put_scores(written)
    found = store.get_scores([record.key for record in written] + [b"absent"])
    assert found == {record.key: record for record in written}
    assert store.get_scores([]) == {}


def test_a_score_stays_unless_another_says_more(store):
    store.put_scores([a_score(1, nats=-2.0), a_score(1, nats=-1.0)])
    store.put_scores([a_score(1, nats=-9.0, mode="echo")])
    (kept,) = store.get_scores([a_score(1).key]).values()
    assert (kept.nats, kept.mode) == (-1.0, "trie")
    store.put_scores([a_score(1, nats=-6.0, per_token=(-1.0, -2.0, -3.0))])
    (kept,) = store.get_scores([a_score(1).key]).values()
    assert (kept.nats, kept.per_token) == (-6.0, (-1.0, -2.0, -3.0))


def test_more_scores_than_one_statement_may_name(store):
    store.put_scores(a_score(i) for i in range(1_201))
    found = store.get_scores([a_score(i).key for i in range(1_300)])
    assert sorted(found) == [a_score(i).key for i in range(1_201)]
    assert store.count_scores() == 1_201


@pytest.mark.parametrize("keep", [0, 2, 4, 9])
def test_the_oldest_are_forgotten_first(store, clock, keep):
    for number in (3, 1):
        store.put_scores([a_score(number)])
        clock.advance(seconds=1)
    store.put_scores([a_score(4), a_score(2)])
    assert store.purge_scores(keep) == max(0, 4 - keep)
    # By age, and of one age by key.
    by_age = [3, 1, 2, 4]
    expected = {a_score(number).key for number in by_age[4 - min(keep, 4) :]}
    assert set(store.get_scores([a_score(i).key for i in range(5)])) == expected


def test_nothing_is_written_for_no_scores(store):
    store.put_scores([])
    assert (store.count_scores(), store.purge_scores(10)) == (0, 0)
