from dataclasses import replace

import pytest

from kshot.errors import InvalidInput, PoolNotFound
from kshot.records import NewExample, PlanItem
from tests.test_index.test_store.cases import a_job, write


def items(n):
    return [
        PlanItem(
            rank=i + 1, example_id=f"e{i}", gain=1 / (i + 1), cost=2.5 if i else None, stratum="en", layer=i
        )
        for i in range(n)
    ]


@pytest.fixture
def plan(store, pool):
    return store.add_job(a_job(id="plan-1", kind="plan", pool_id=pool.id)).id


def test_items_come_back_in_order_and_in_pages(store, pool, plan):
    store.put_plan_items(plan, pool.id, items(5)[::-1])
    assert store.list_plan_items(plan) == items(5)
    assert store.list_plan_items(plan, limit=2) == items(5)[:2]
    assert store.list_plan_items(plan, after=2, limit=2) == items(5)[2:4]
    assert store.list_plan_items(plan, after=5) == []


def test_a_plan_that_is_made_again_replaces_its_items(store, pool, plan):
    store.put_plan_items(plan, pool.id, items(5))
    other = [replace(items(1)[0], example_id="other", stratum=None)]
    store.put_plan_items(plan, pool.id, other)
    assert store.list_plan_items(plan) == other
    store.put_plan_items(plan, pool.id, [])
    assert store.list_plan_items(plan) == []


def test_plans_do_not_mix(store, pool, plan):
    store.add_job(a_job(id="plan-2", kind="plan", pool_id=pool.id))
    store.put_plan_items(plan, pool.id, items(2))
    store.put_plan_items("plan-2", pool.id, items(3))
    assert [len(store.list_plan_items(one)) for one in (plan, "plan-2", "plan-3")] == [2, 3, 0]


def test_items_go_with_their_pool(store, pool, plan):
    store.put_plan_items(plan, pool.id, items(2))
    store.delete_pool(pool.name)
    assert store.list_plan_items(plan) == []
    assert store.get_job(plan).pool_id is None
    with pytest.raises(PoolNotFound):
        store.put_plan_items(plan, pool.id, items(1))


def test_a_page_without_items_is_refused(store, plan):
    with pytest.raises(InvalidInput, match="limit is 0"):
        store.list_plan_items(plan, limit=0)


def test_live_examples_are_found_by_id(store, pool):
    write(store, pool.id, *(NewExample(id=f"e{i}", inputs=f"text {i}") for i in range(3)))
    store.delete_examples(pool.id, ids=["e1"])
    found = store.get_examples_by_id(pool.id, ["e2", "e1", "e0", "none"])
    assert {name: example.inputs for name, example in found.items()} == {"e0": "text 0", "e2": "text 2"}
