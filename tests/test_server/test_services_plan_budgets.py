"""Plans over the real service: budgets of cost, and budgets that strata share."""

from tests.test_server.live import Live, LivePool, pointers
from tests.test_server.live_plans import items, made, refused, unlabelled


def test_a_budget_of_cost_is_kept(live: Live, pool: LivePool):
    pool.add(unlabelled(30))
    for method in ("fast_vote_k", "k_means"):
        plan = made(pool, max_cost=20, cost_field="metadata.cost", method=method)
        found = items(pool, plan)
        assert plan["result"]["cost"] == sum(item["cost"] for item in found) <= 20
        assert plan["result"]["planned"] == len(found) >= 4
    cheap = made(pool, max_cost=1, cost_field="metadata.cost")
    assert items(pool, cheap) == []
    assert [notice["code"] for notice in cheap["result"]["notices"]] == ["nothing_affordable"]


def test_costs_that_are_missing_or_negative_are_refused(live: Live, pool: LivePool):
    rows = unlabelled(5)
    del rows[3]["metadata"]["cost"]
    pool.add(rows)
    problem = refused(pool, max_cost=9, cost_field="metadata.cost")
    assert pointers(problem) == ["/cost_field"]
    assert "1 unlabelled examples have no number in metadata.cost, such as 't00003'" in problem["detail"]
    plan = made(pool, max_cost=900, cost_field="metadata.cost", default_cost=7)
    assert {item["id"]: item["cost"] for item in items(pool, plan)}["t00003"] == 7
    rows[2]["metadata"]["cost"] = -4
    pool.add(rows)
    problem = refused(pool, max_cost=9, cost_field="metadata.cost", default_cost=1)
    assert "'t00002' with -4, allowed >= 0" in problem["detail"]


def test_strata_share_the_budget(live: Live, pool: LivePool):
    rows = unlabelled(30)
    for i, row in enumerate(rows):
        row["metadata"]["lang"] = "en" if i < 20 else "de" if i < 29 else None
    pool.add(rows)
    # One each; then 20 / sqrt 2 = 14.1 against 9 / sqrt 2 = 6.4; then 8.2 against 6.4; then 5.8 against 6.4.
    plan = made(pool, budget=6, strata={"field": "metadata.lang"})
    assert plan["result"]["strata"] == [
        {"value": "en", "unlabelled": 20, "planned": 3},
        {"value": "de", "unlabelled": 9, "planned": 2},
        {"value": None, "unlabelled": 1, "planned": 1},
    ]
    assert [item["stratum"] for item in items(pool, plan)][:3] == ["en", "de", None]
    wanted = {"field": "metadata.lang", "shares": {"de": 1}}
    plan = made(pool, budget=6, strata=wanted)
    assert [item["stratum"] for item in items(pool, plan)] == ["de"] * 6
    assert pointers(refused(pool, budget=3, strata={"field": "metadata.nope"})) == ["/strata/field"]
    empty = refused(pool, budget=3, strata={"field": "metadata.lang", "shares": {"fr": 1}})
    assert pointers(empty) == ["/strata/shares/fr"]
    assert "'en', 'de'" in empty["detail"]
