"""Plans over the real service: lists of plans, the items of one, and its files for labelling tools."""

import json

from tests.test_server.live import Live, LivePool, pointers, the_problem
from tests.test_server.live_plans import ids, items, made, unlabelled


def test_plans_are_listed_newest_first_and_items_in_pages(live: Live, pool: LivePool):
    pool.add(unlabelled(9))
    first, second = (made(pool, budget=5, curve=False)["id"] for _ in range(2))
    page = live.http.get(f"/v1/plans?limit=1&pool={pool.name}").json()
    assert [plan["id"] for plan in page["data"]] == [second]
    rest = live.http.get(f"/v1/plans?pool={pool.name}&cursor={page['next_cursor']}").json()
    assert [plan["id"] for plan in rest["data"]] == [first]
    page = live.http.get(f"/v1/plans/{first}/items?limit=3").json()
    assert [item["rank"] for item in page["data"]] == [1, 2, 3]
    page = live.http.get(f"/v1/plans/{first}/items?cursor={page['next_cursor']}").json()
    assert ([item["rank"] for item in page["data"]], page["next_cursor"]) == ([4, 5], None)
    problem = the_problem(live.http.get(f"/v1/plans/{first}/items?cursor=x"), 422)
    assert pointers(problem) == ["/cursor"]
    (job,) = [one for one in live.http.get("/v1/jobs").json()["data"] if one["id"] == first]
    assert (job["kind"], job["state"], job["result"]["planned"]) == ("plan", "succeeded", 5)


def test_items_say_what_became_of_them(live: Live, pool: LivePool):
    pool.add(unlabelled(4))
    plan = made(pool, budget=4, method="k_center", curve=False)
    chosen = ids(pool, plan)
    pool.request("PATCH", f"/examples/{chosen[0]}", {"outputs": "x", "status": "approved"})
    pool.request("PATCH", f"/examples/{chosen[1]}", {"status": "retired"})
    pool.request("DELETE", f"/examples/{chosen[2]}")
    found = items(pool, plan)
    assert [item["state"] for item in found] == ["labelled", "retired", "deleted", "unlabelled"]
    assert found[2]["inputs"] is None


def test_a_plan_is_exported_in_order_and_without_what_is_labelled(live: Live, pool: LivePool):
    pool.add(unlabelled(5))
    plan = made(pool, budget=4, method="k_center", curve=False)
    chosen = ids(pool, plan)
    pool.request("PATCH", f"/examples/{chosen[1]}", {"outputs": "billing", "status": "approved"})
    pool.indexed()
    path = f"/v1/plans/{plan['id']}/export"

    response = live.http.get(path)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["content-disposition"] == f'attachment; filename="plan-{plan["id"][:8]}.jsonl"'
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert [row["id"] for row in rows] == [chosen[0], *chosen[2:]]
    everything = live.http.get(path, params={"all": "true"}).text.splitlines()
    assert [json.loads(line)["id"] for line in everything] == chosen

    tasks = live.http.get(path, params={"format": "label-studio"}).json()
    assert [task["data"]["kshot_id"] for task in tasks] == [chosen[0], *chosen[2:]]
    assert {(task["data"]["kshot_plan"], task["data"]["kshot_pool"]) for task in tasks} == {
        (plan["id"], pool.name)
    }
    for form in ("argilla", "prodigy", "csv"):
        assert chosen[0] in live.http.get(path, params={"format": form}).text
    assert pointers(the_problem(live.http.get(path, params={"format": "paper"}), 422)) == ["/format"]
