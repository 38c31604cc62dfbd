"""Which rows of tokens score a batch; every plan by hand."""

import random

import pytest

from kshot.clients.scorers.rows import Group, Place, Row, group_rows, pack, plan_rows


def test_single_tokens_share_the_row_of_their_context():
    rows, places = plan_rows([((7, 8), (3,)), ((7, 8), (1,)), ((7, 8), (3,))])
    assert rows == [Row((7, 8), 2, ((1, 3),))]
    assert places == {((7, 8), (3,)): Place(0, (3,)), ((7, 8), (1,)): Place(0, (1,))}


def test_the_last_token_is_not_fed_and_a_longer_completion_serves_a_shorter_one():
    rows, places = plan_rows(
        [((7,), (1, 2)), ((7,), (1,)), ((7,), (1, 4)), ((7,), (1, 2, 5)), ((7,), (6, 9))]
    )
    # (1, 2, 5) feeds 1 and 2; it also answers for (1,), (1, 2) and (1, 4). (6, 9) feeds 6.
    assert rows == [Row((7, 1, 2), 1, ((1,), (2, 4), (5,))), Row((7, 6), 1, ((6,), (9,)))]
    assert [places[(7,), one].row for one in [(1,), (1, 2), (1, 4), (1, 2, 5), (6, 9)]] == [0, 0, 0, 0, 1]


def test_rows_do_not_depend_on_the_order():
    rng = random.Random(1)
    pairs = [
        (tuple(rng.choices(range(3), k=rng.randint(1, 3))), tuple(rng.choices(range(3), k=rng.randint(1, 4))))
        for _ in range(200)
    ]
    rows, places = plan_rows(pairs)
    for (context, completion), place in places.items():
        row = rows[place.row]
        assert row.first == len(context)
        assert row.ids[: len(context) + len(completion) - 1] == context + completion[:-1]
        assert all(token in row.wanted[step] for step, token in enumerate(completion))
    rng.shuffle(pairs)
    assert plan_rows(pairs) == (rows, places)


def row(*ids: int, first: int | None = None) -> Row:
    first = len(ids) if first is None else first
    return Row(ids, first, ((0,),) * (len(ids) - first + 1))


def test_rows_that_start_alike_are_joined_up_to_the_last_token_of_their_contexts():
    front = tuple(range(40))
    # The distribution after token 40 is read in the second row, so that token is not shared.
    assert group_rows([row(*front, 1), row(*front, 1, 9, first=41)]) == [Group(40, (0, 1))]
    assert group_rows([row(*front), row(*front, 1, first=40)]) == [Group(39, (0, 1))]


def test_short_fronts_are_not_worth_a_computation_of_their_own():
    front = tuple(range(31))
    assert group_rows([row(*front, 1), row(*front, 2)]) == [Group(0, (0,)), Group(0, (1,))]


def test_a_row_that_would_cost_a_group_more_than_it_saves_starts_another():
    long, short = tuple(range(100)), (*range(40), 200)
    # Two rows share 100 tokens; with the third the three would share 40: 2 * 40 < 1 * 100.
    assert group_rows([row(*long, 1), row(*long, 2), row(*short)]) == [Group(100, (0, 1)), Group(0, (2,))]
    # With 60 they save 2 * 60 > 100.
    assert group_rows([row(*long, 1), row(*long, 2), row(*range(60), 200)]) == [Group(60, (0, 1, 2))]


def test_nothing_needs_nothing():
    assert plan_rows([]) == ([], {})
    assert group_rows([]) == []
    assert pack([], [], max_tokens=10, max_rows=2) == []


def test_batches_hold_rows_of_similar_length_within_their_limits():
    lengths = [3, 9, 4, 30, 4, 1]
    # 30 is too long and stands alone; 9 + padded 4 is 18 > 12; 4, 4, 3 are 12 padded tokens.
    assert pack(range(6), lengths, max_tokens=12, max_rows=9) == [(3,), (1,), (2, 4, 0), (5,)]
    assert pack(range(6), lengths, max_tokens=12, max_rows=2) == [(3,), (1,), (2, 4), (0, 5)]


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_group(seed):
    rng = random.Random(seed)
    rows, _ = plan_rows([(tuple(rng.choices(range(2), k=60)), (rng.randrange(5),)) for _ in range(50)])
    groups = group_rows(rows)
    assert [number for group in groups for number in group.rows] == list(range(len(rows)))
    for group in groups:
        assert len({rows[number].ids[: group.shared] for number in group.rows}) == 1
