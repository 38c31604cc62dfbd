"""What is kept of shown examples: the right text, within its bytes, and nothing that is gone."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np

from kshot.formatting import Turn
from kshot.records import Example
from kshot.server.services.shown import Shown, ShownCache

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shown(seq: int, text: str = "a") -> Shown:
    example = Example(
        id=f"e{seq}",
        inputs=text,
        seq=seq,
        feature_seq=seq,
        added_in=1,
        removed_in=None,
        created_at=NOW,
        updated_at=NOW,
    )
    return Shown(example, Turn.of(text, None), 1)


def snapshot(version: int, *seqs: int) -> Any:
    return SimpleNamespace(version=version, seqs=np.array(seqs))


class Loader:
    def __init__(self, *absent: int, text: str = "a") -> None:
        self.absent, self.text = absent, text
        self.asked: list[list[int]] = []

    def __call__(self, seqs: Sequence[int]) -> list[Shown]:
        self.asked.append(list(seqs))
        return [shown(seq, self.text) for seq in reversed(seqs) if seq not in self.absent]


def seqs_of(found: list[tuple[int, Shown]]) -> list[tuple[int, int]]:
    return [(place, one.example.seq) for place, one in found]


def test_the_answer_is_in_the_order_asked_for_whatever_is_at_hand():
    cache, load = ShownCache(), Loader()
    state = snapshot(1, 10, 11, 12, 13)
    assert seqs_of(cache.get(state, np.array([2, 0]), load)) == [(0, 12), (1, 10)]
    assert seqs_of(cache.get(state, np.array([3, 0, 1, 2]), load)) == [(0, 13), (1, 10), (2, 11), (3, 12)]
    assert load.asked == [[12, 10], [13, 11]]


def test_erased_versions_leave_their_place_empty():
    found = ShownCache().get(snapshot(1, 10, 11, 12), np.array([0, 1, 2]), Loader(11))
    assert seqs_of(found) == [(0, 10), (2, 12)]


def test_a_version_that_a_newer_snapshot_lacks_is_forgotten():
    cache = ShownCache()
    cache.get(snapshot(1, 10, 11), np.array([0, 1]), Loader())
    cache.get(snapshot(2, 10, -1), np.array([0]), load := Loader())
    assert load.asked == [], "the other one is still at hand"
    cache.get(snapshot(1, 10, 11), np.array([0, 1]), load)
    assert load.asked == [[11]]


def test_a_reader_of_an_older_snapshot_leaves_nothing_behind():
    cache, load = ShownCache(), Loader()
    cache.get(snapshot(2, 10, -1), np.array([0]), load)
    cache.get(snapshot(1, 10, 11), np.array([1]), load)
    cache.get(snapshot(1, 10, 11), np.array([1]), load)
    assert load.asked == [[10], [11], [11]]


def test_a_snapshot_that_becomes_old_while_loading_leaves_nothing_behind():
    cache, load = ShownCache(), Loader()

    def overtaken(seqs: Sequence[int]) -> list[Shown]:
        cache.get(snapshot(2, -1, 12), np.array([1]), load)
        return [shown(seq) for seq in seqs]

    cache.get(snapshot(1, 11, -1), np.array([0]), overtaken)
    cache.get(snapshot(2, -1, 12), np.array([1]), load)
    cache.get(snapshot(1, 11, -1), np.array([0]), load)
    assert load.asked == [[12], [11]]


def test_the_least_recently_shown_goes_first_when_the_room_is_full():
    load = Loader(text="x" * 1_000)
    state = snapshot(1, 10, 11, 12)
    cache = ShownCache(max_bytes=12_000)  # two of about 5,200
    for row in (0, 1, 0, 2, 0, 1):
        cache.get(state, np.array([row]), load)
    assert load.asked == [[10], [11], [12], [11]]


def test_no_room_keeps_nothing():
    cache, load = ShownCache(max_bytes=0), Loader()
    for _ in range(2):
        assert seqs_of(cache.get(snapshot(1, 10), np.array([0]), load)) == [(0, 10)]
    assert load.asked == [[10], [10]]
