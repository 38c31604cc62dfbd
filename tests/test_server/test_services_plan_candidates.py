"""Plans over the real service: which examples take part, and where candidates come from."""

from tests.test_server.live import Live, LivePool, pointers, tickets, wait_until
from tests.test_server.live_plans import ids, items, made, refused, unlabelled


def test_a_larger_budget_than_there_are_rows_plans_all_and_says_so(live: Live, pool: LivePool):
    pool.add([*unlabelled(12), *tickets(4, 50)])
    plan = made(pool, budget=500, method="k_center")
    assert sorted(ids(pool, plan)) == [f"t{i:05d}" for i in range(12)]
    assert [notice["code"] for notice in plan["result"]["notices"]] == ["all_planned"]


def test_equal_inputs_are_planned_once_and_not_at_all_beside_a_labelled_one(live: Live, pool: LivePool):
    rows = unlabelled(6)
    pool.add(
        [
            *rows,
            {"id": "again", "inputs": rows[2]["inputs"]},
            {"id": "known", "inputs": rows[4]["inputs"], "outputs": "login"},
        ]
    )
    plan = made(pool, budget=50, method="k_center")
    assert sorted(ids(pool, plan)) == ["t00000", "t00001", "t00002", "t00003", "t00005"]
    assert (plan["result"]["labelled"], plan["result"]["unlabelled"]) == (1, 5)
    assert "equal_inputs" in {notice["code"] for notice in plan["result"]["notices"]}


def test_filters_and_splits_say_what_takes_part(live: Live, pool: LivePool):
    rows = unlabelled(30)
    for i, row in enumerate(rows):
        row["split"] = "test" if i % 2 else "train"
    pool.add(rows)
    german = {"field": "metadata.lang", "eq": "de"}
    assert sorted(ids(pool, made(pool, budget=99, method="random"))) == [r["id"] for r in rows[::2]]
    plan = made(pool, budget=99, method="random", exclude_splits=[], filter=german)
    assert sorted(ids(pool, plan)) == [r["id"] for r in rows if r["metadata"]["lang"] == "de"]
    plan = made(
        pool, budget=3, method="random", filter={"any": [german, {"field": "metadata.nope", "eq": 1}]}
    )
    assert [notice["code"] for notice in plan["result"]["notices"]] == ["field_unseen"]


def test_retired_examples_take_no_part(live: Live, pool: LivePool):
    rows = unlabelled(4)
    rows[1]["status"] = "retired"
    pool.add([*rows, {"id": "old", "inputs": "old and gone", "outputs": "x", "status": "retired"}])
    plan = made(pool, budget=9, method="random")
    assert sorted(ids(pool, plan)) == ["t00000", "t00002", "t00003"]
    assert plan["result"]["labelled"] == 0


def test_examples_that_come_with_a_request_are_stored_as_drafts_first(live: Live, pool: LivePool):
    pool.add([{"id": "a", "inputs": "already here", "outputs": "yes"}])
    rows = [{"id": "a", "inputs": "already here"}, {"id": "b", "inputs": "new"}, {"inputs": "newer"}]
    plan = made(pool, budget=9, method="k_center", examples=rows)
    assert plan["result"]["labelled"] == 1
    assert len(items(pool, plan)) == 2
    assert pool.request("GET", "/examples/a").json()["outputs"] == "yes"
    assert pool.request("GET", "/examples/b").json()["status"] == "draft"
    assert "examples" not in plan["request"]


def test_coverage_gaps_become_candidates(live: Live, pool: LivePool):
    pool.add(tickets(20))
    far = "zebra quantum marmalade"
    for _ in range(2):
        assert pool.select(far, k=1, durable=True)["selection_id"]

    plan = made(pool, budget=5, method="k_center", gaps=10)

    (item,) = items(pool, plan)
    assert item["inputs"] == far
    assert item["metadata"]["source"] == "coverage_gap"
    assert item["metadata"]["queries"] == 2
    # Labelled since, it is not overwritten by the same gap.
    pool.request("PATCH", f"/examples/{item['id']}", {"outputs": "billing", "status": "approved"})
    wait_until(lambda: "draft" not in pool.stats()["by_status"], "the label")
    assert "nothing is left to label" in refused(pool, budget=5, gaps=10)["detail"]
    assert pool.request("GET", f"/examples/{item['id']}").json()["outputs"] == "billing"


def test_gaps_of_a_pool_with_external_vectors_are_refused(live: Live):
    pool = live.create("vectors", embedder={"type": "external", "dimension": 2})
    pool.add([{"id": "a", "inputs": "x", "vector": [1, 0]}, {"id": "b", "inputs": "y", "vector": [0, 1]}])
    assert pointers(refused(pool, budget=1, gaps=1)) == ["/gaps"]
    assert len(ids(pool, made(pool, budget=2))) == 2
