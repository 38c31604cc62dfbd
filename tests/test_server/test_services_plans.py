"""Plans over the real service: what each method proposes, and what it would buy."""

from typing import Any

import numpy as np
import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.selectors import fast_vote_k
from tests.test_server.live import Live, LivePool, pointers, tickets, wait_until
from tests.test_server.live_plans import ids, items, made, refused, unlabelled


def vectors_of(rows: list[dict[str, Any]]) -> Any:
    return HashingEmbedder().encode([row["inputs"] for row in rows], token_layer=None).vectors


def test_a_plan_is_that_of_the_method_over_the_pools_vectors(live: Live, pool: LivePool):
    rows = unlabelled(60)
    pool.add(rows)

    plan = made(pool, budget=10, method={"type": "fast_vote_k", "n_neighbors": 8})

    picks = fast_vote_k(vectors_of(rows), 10, n_neighbors=8)
    found = items(pool, plan)
    assert [item["id"] for item in found] == [rows[i]["id"] for i in picks.indices]
    assert [item["gain"] for item in found] == pytest.approx(picks.gains.tolist())
    assert {item["state"] for item in found} == {"unlabelled"}
    assert found[0]["inputs"] == rows[picks.indices[0]]["inputs"]
    result = plan["result"]
    assert (result["method"], result["parameters"]) == ("fast_vote_k", {"n_neighbors": 8})
    assert (result["labelled"], result["unlabelled"], result["planned"]) == (0, 60, 10)
    assert result["graph"] == {"n_neighbors": 8, "center": True, "exact": True, "recall": 1.0}
    assert result["pool_version"] == pool.info()["version"]


def test_labels_that_came_back_count_as_covered_and_are_not_planned_again(live: Live, pool: LivePool):
    rows = unlabelled(60)
    pool.add(rows)
    method = {"type": "fast_vote_k", "n_neighbors": 8}
    first = ids(pool, made(pool, budget=5, method=method))
    for example_id in first:
        changed = {"outputs": "billing", "status": "approved"}
        assert pool.request("PATCH", f"/examples/{example_id}", changed).status_code == 200
    wait_until(lambda: pool.stats()["by_status"].get("approved") == 5, "the labels")

    plan = made(pool, budget=5, method=method)

    assert plan["result"]["labelled"] == 5
    number = {row["id"]: i for i, row in enumerate(rows)}
    labelled = np.array([number[one] for one in first])
    expected = fast_vote_k(vectors_of(rows), 5, n_neighbors=8, labelled=labelled).indices
    assert [number[one] for one in ids(pool, plan)] == expected.tolist()
    # Votes are discounted the same whether the chosen rows are labelled or only planned.
    assert set(first).isdisjoint(ids(pool, plan))
    whole = fast_vote_k(vectors_of(rows), 10, n_neighbors=8).indices.tolist()
    assert [number[one] for one in [*first, *ids(pool, plan)]] == whole


@pytest.mark.parametrize("method", ["random", "k_means", "fast_vote_k"])
def test_the_same_request_gives_the_same_plan(live: Live, pool: LivePool, method: str):
    pool.add(unlabelled(40))
    body = {"budget": 7, "method": method, "seed": 3, "curve": False}
    assert ids(pool, made(pool, **body)) == ids(pool, made(pool, **body))


def test_methods_read_the_fields_that_the_request_names(live: Live, pool: LivePool):
    rows = unlabelled(30)
    for i, row in enumerate(rows):
        row["metadata"]["sure"] = float((i * 7) % 30)
        row["metadata"]["tags"] = [row["metadata"]["lang"], f"p{i % 4}"]
    del rows[3]["metadata"]["sure"]
    pool.add(rows)

    plan = made(pool, budget=4, method="least_confidence", confidence_field="metadata.sure")
    # 3 is unknown, which counts as least sure; then 0 * 7, 13 * 7 = 91 = 1 mod 30, 26 * 7 = 182 = 2 mod 30.
    assert ids(pool, plan) == ["t00003", "t00000", "t00013", "t00026"]
    assert [notice["code"] for notice in plan["result"]["notices"]] == ["confidence_field_missing"]

    assert len(ids(pool, made(pool, budget=4, method="mig", tag_field="metadata.tags"))) == 4
    assert len(ids(pool, made(pool, budget=4, method="structurally_diverse"))) == 4

    assert pointers(refused(pool, budget=4, method="least_confidence")) == ["/confidence_field"]
    assert pointers(refused(pool, budget=4, method="mig")) == ["/tag_field"]
    assert pointers(refused(pool, budget=4, method="mig", tag_field="metadata.none")) == ["/tag_field"]
    rows[0]["metadata"]["quality"] = -1
    pool.add(rows)
    problem = refused(pool, budget=4, method="dpp_diversity", quality_field="metadata.quality")
    assert pointers(problem) == ["/quality_field"]
    assert "'t00000' with -1" in problem["detail"]


def test_every_planner_works_over_http_and_is_listed(live: Live, pool: LivePool):
    rows = unlabelled(25)
    for row in rows:
        row["metadata"]["sure"] = row["metadata"]["hard"]
    pool.add([*rows, *tickets(5, 100)])
    listed = live.http.get("/v1/planners").json()["data"]
    names = [one["name"] for one in listed]
    assert {"random", "fast_vote_k", "vote_k", "ideal", "facility_location", "k_center"} <= set(names)
    for one in listed:
        assert one["summary"].endswith(".")
        plan = made(
            pool,
            budget=6,
            method=one["name"],
            confidence_field="metadata.sure",
            tag_field="metadata.lang",
        )
        chosen = ids(pool, plan)
        assert len(chosen) == len(set(chosen)), one["name"]
        # A cascade ends by itself.
        assert len(chosen) == 6 or one["name"] == "auto_ideal"
        assert set(chosen) <= {row["id"] for row in rows}


def test_what_a_model_may_label_comes_with_its_distance_from_a_label(live: Live, pool: LivePool):
    assert "nothing is left" in refused(pool, budget=1, method="auto_ideal")["detail"]
    pool.add([*unlabelled(40), *tickets(4, 100)])
    plan = made(pool, budget=30, method={"type": "auto_ideal", "n_neighbors": 5}, curve=False)
    layers = [item["layer"] for item in items(pool, plan)]
    sizes = plan["result"]["diagnostics"]["layers"]
    assert layers == [layer for layer, size in enumerate(sizes, start=1) for _ in range(size)]
    assert layers[0] == 1
    assert {item["layer"] for item in items(pool, made(pool, budget=3, curve=False))} == {None}


def test_a_method_that_reached_nothing_says_so(live: Live, pool: LivePool):
    pool.add([*unlabelled(20), *tickets(1, 101)])
    # A single label reaches no neighbour with probability 1/e or so.
    plans = (made(pool, budget=9, method="auto_ideal", seed=seed, curve=False) for seed in range(20))
    results = [plan["result"] for plan in plans]
    seen = {(result["planned"] == 0, *(one["code"] for one in result["notices"])) for result in results}
    assert seen == {(True, "nothing_reached"), (False,)}


def test_the_curve_says_what_labels_buy(live: Live, pool: LivePool):
    pool.add(unlabelled(60))
    curve = made(pool, budget=20, method="facility_location")["result"]["curve"]
    means = [point["mean"] for point in curve["points"]]
    assert means == sorted(means)
    assert curve["budget"] == 20
    assert curve["random"]["seeds"] == 20
    assert (curve["unlabelled"], curve["rows_measured"]) == (60, 60)
    assert curve["needed"]["share"] == 0.9
    assert str(curve["needed"]["budget"]) in curve["needed"]["sentence"]
    assert made(pool, budget=5, curve=False)["result"]["curve"] is None
