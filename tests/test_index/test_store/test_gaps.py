from datetime import timedelta

import pytest

from kshot.errors import InvalidInput
from kshot.records import CoverageGap
from tests.test_index.test_store.cases import NOON, a_selection

LATER = NOON + timedelta(hours=1)


def add(store, pool, name, best_similarity, query="a", made=NOON):
    selection = a_selection(
        id=name, pool_id=pool.id, best_similarity=best_similarity, query=query, created_at=made
    )
    assert store.add_selections([selection]) == 1


def listed(store, pool, below=0.5, since=NOON, **page):
    return store.list_gaps(pool.id, below=below, since=since, **page)


@pytest.mark.parametrize("similarity", [None, 0.1 + 0.2, -1.0, 1.0])
def test_the_best_similarity_comes_back_to_the_last_bit(store, pool, similarity):
    selection = a_selection(pool_id=pool.id, best_similarity=similarity)
    store.add_selections([selection])
    assert store.get_selection("sel-1") == selection


def test_equal_queries_are_one_gap_with_a_count(store, pool):
    add(store, pool, "b", 0.25, "où est-il?", LATER)
    add(store, pool, "a", 0.125, "où est-il?")
    add(store, pool, "c", 0.375, "else")
    assert listed(store, pool) == [
        CoverageGap(
            query="où est-il?",
            count=2,
            best_similarity=0.125,
            first_at=NOON,
            last_at=LATER,
            selection_id="a",
        ),
        CoverageGap(
            query="else", count=1, best_similarity=0.375, first_at=NOON, last_at=NOON, selection_id="c"
        ),
    ]


def test_queries_of_fields_merge_and_a_text_is_no_field(store, pool):
    add(store, pool, "a", 0.1, {"subject": "Grüße 🙂", "n": 1})
    add(store, pool, "b", 0.2, {"subject": "Grüße 🙂", "n": 1})
    add(store, pool, "c", 0.3, '{"subject": "Grüße 🙂", "n": 1}')
    assert [(gap.query, gap.count) for gap in listed(store, pool)] == [
        ({"subject": "Grüße 🙂", "n": 1}, 2),
        ('{"subject": "Grüße 🙂", "n": 1}', 1),
    ]


def test_selections_without_their_query_are_gaps_of_their_own(store, pool):
    for name in ("a", "b"):
        add(store, pool, name, 0.1, None)
    assert [(gap.query, gap.count, gap.selection_id) for gap in listed(store, pool)] == [
        (None, 1, "a"),
        (None, 1, "b"),
    ]


def test_only_a_lower_similarity_is_a_gap(store, pool):
    other = store.create_pool("other", {})
    add(store, pool, "equal", 0.5, "1")
    add(store, pool, "above", 0.75, "2")
    add(store, pool, "unknown", None, "3")
    add(store, other, "elsewhere", 0.1, "4")
    add(store, pool, "below", 0.25, "5")
    assert [gap.query for gap in listed(store, pool)] == ["5"]
    assert [gap.query for gap in listed(store, pool, below=0.6)] == ["5", "1"]
    assert store.count_selections(pool.id, since=NOON) == 4
    assert store.count_selections(pool.id, since=NOON, below=0.5) == 1
    assert store.count_selections(other.id, since=NOON, below=0.5) == 1


def test_what_was_made_before_is_left_out(store, pool):
    add(store, pool, "old", 0.1, made=NOON - timedelta(seconds=1))
    add(store, pool, "now", 0.2)
    add(store, pool, "then", 0.3, made=LATER)
    (gap,) = listed(store, pool)
    assert (gap.count, gap.best_similarity, gap.first_at, gap.last_at) == (2, 0.2, NOON, LATER)
    assert store.count_selections(pool.id, since=NOON) == 2
    assert store.count_selections(pool.id, since=LATER, below=0.5) == 1


def test_pages_put_together_are_the_whole_list(store, pool):
    similarities = [0.1, 0.1 + 0.2, 0.3, 0.1, 0.1, -0.2, 0.3]
    for i, similarity in enumerate(similarities):
        add(store, pool, f"id{i}", similarity, f"query {i}")
    expected = [f"query {i}" for i in (5, 0, 3, 4, 2, 6, 1)]
    assert [gap.query for gap in listed(store, pool)] == expected
    for limit in (1, 2, 3):
        found, after = [], None
        while page := listed(store, pool, limit=limit, after=after):
            assert len(page) <= limit
            found += [gap.query for gap in page]
            after = page[-1].best_similarity, page[-1].selection_id
        assert found == expected


def test_a_page_has_at_least_one_gap(store, pool):
    with pytest.raises(InvalidInput, match="limit is 0, wanted at least 1"):
        listed(store, pool, limit=0)


def test_purged_selections_are_no_gaps(store, pool):
    add(store, pool, "a", 0.1)
    store.purge_selections(LATER, pool_id=pool.id)
    assert listed(store, pool) == []
    assert store.count_selections(pool.id, since=NOON) == 0
