"""Plans over the real service: what is proposed, under which budget, and what becomes of it."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.index.store import Store
from kshot.records import Job, JobState
from kshot.selectors import fast_vote_k
from kshot.server.services.planning import gathering, work
from tests.test_server.live import (
    Live,
    LivePool,
    pointers,
    running,
    the_problem,
    tickets,
    wait_until,
)


def unlabelled(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Tickets without outputs; every third costs more."""
    rows = tickets(n, start)
    for i, row in enumerate(rows):
        del row["outputs"], row["split"]
        row["metadata"]["cost"] = 5.0 if i % 3 == 0 else 2.0
    return rows


def ask(pool: LivePool, **body: Any) -> httpx.Response:
    return pool.live.http.post("/v1/plans", json={"pool": pool.name, **body})


def started(pool: LivePool, **body: Any) -> str:
    response = ask(pool, **body)
    assert response.status_code == 202, response.text
    plan = response.json()
    assert response.headers["location"] == f"/v1/plans/{plan['id']}"
    assert plan["pool"] in {pool.name, body.get("pool")}
    return str(plan["id"])


def finished(pool: LivePool, plan_id: str) -> Any:
    def plan() -> Any:
        return pool.live.http.get(f"/v1/plans/{plan_id}").raise_for_status().json()

    wait_until(lambda: plan()["state"] in {"succeeded", "failed", "cancelled"}, f"the end of {plan_id}")
    return plan()


def made(pool: LivePool, **body: Any) -> Any:
    plan = finished(pool, started(pool, **body))
    assert (plan["state"], plan["error"]) == ("succeeded", None)
    return plan


def items(pool: LivePool, plan: Any) -> list[Any]:
    page = pool.live.http.get(f"/v1/plans/{plan['id']}/items?limit=1000").raise_for_status().json()
    assert page["next_cursor"] is None
    assert [item["rank"] for item in page["data"]] == list(range(1, len(page["data"]) + 1))
    return list(page["data"])


def ids(pool: LivePool, plan: Any) -> list[str]:
    return [item["id"] for item in items(pool, plan)]


def refused(pool: LivePool, **body: Any) -> Any:
    return the_problem(ask(pool, **body), 422)


def vectors_of(rows: list[dict[str, Any]]) -> Any:
    return HashingEmbedder().encode([row["inputs"] for row in rows], token_layer=None).vectors


# --- what is planned ---


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


# --- budgets ---


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


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, [""]),
        ({"budget": 5, "max_cost": 3, "cost_field": "metadata.cost"}, [""]),
        ({"max_cost": 3}, [""]),
        ({"budget": 0}, ["/budget"]),
        ({"budget": 2.5}, ["/budget"]),
        ({"max_cost": -1, "cost_field": "metadata.cost"}, ["/max_cost"]),
        ({"budget": 5, "cost_field": "cost"}, ["/cost_field"]),
        ({"budget": 5, "method": {"type": "fast_vote_k", "n_neighbors": 0}}, ["/method/n_neighbors"]),
        ({"budget": 5, "method": {"type": "fast_vote_k", "colour": 1}}, ["/method/colour"]),
        ({"budget": 5, "colour": 1}, ["/colour"]),
        ({"budget": 5, "examples": [{"inputs": ""}, {"inputs": "fine"}]}, ["/examples/0/inputs"]),
        ({"budget": 5, "examples": ["text"]}, ["/examples/0"]),
    ],
)
def test_senseless_requests_are_refused_by_field(
    live: Live, pool: LivePool, body: dict[str, Any], places: list[str]
):
    pool.add(unlabelled(3))
    assert pointers(refused(pool, **body)) == places
    assert pool.info()["examples"] == 3


def test_unknown_methods_and_pools_are_named(live: Live, pool: LivePool):
    pool.add(unlabelled(3))
    problem = refused(pool, budget=3, method="vote")
    assert problem["code"] == "unknown_selector"
    assert "fast_vote_k" in problem["detail"]
    assert the_problem(ask(live.pool("none"), budget=3), 404)["code"] == "pool_not_found"


def test_nothing_left_to_label_is_said_at_once(live: Live, pool: LivePool):
    assert "nothing is left to label" in refused(pool, budget=3)["detail"]
    pool.add(tickets(8))
    assert "nothing is left to label" in refused(pool, budget=3)["detail"]


# --- where candidates come from ---


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


# --- the curve ---


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


# --- plans as jobs ---


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


def test_what_is_no_plan_is_not_found(live: Live, pool: LivePool):
    pool.add(unlabelled(3))
    job = live.services._runner.submit("tune", live.services.store.get_pool(pool.name).id, {})
    for plan_id in ("none", job.id):
        for call in (
            live.http.get(f"/v1/plans/{plan_id}"),
            live.http.get(f"/v1/plans/{plan_id}/items"),
            live.http.delete(f"/v1/plans/{plan_id}"),
            live.http.get(f"/v1/plans?cursor={plan_id}"),
        ):
            assert the_problem(call, 404)["code"] == "plan_not_found"


class Gate:
    """Holds a plan where it begins to gather its rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        through = gathering.task_of

        def gated(*arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return through(*arguments)

        monkeypatch.setattr(f"{work.__name__}.task_of", gated)


def test_a_running_plan_can_be_cancelled(live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch):
    pool.add(unlabelled(9))
    gate = Gate(monkeypatch)
    plan_id = started(pool, budget=3)
    assert gate.reached.wait(60)
    unfinished = the_problem(live.http.get(f"/v1/plans/{plan_id}/items"), 409)
    assert "running" in unfinished["detail"]
    assert live.http.delete(f"/v1/plans/{plan_id}").json()["state"] == "cancelled"
    gate.open.set()
    plan = finished(pool, plan_id)
    assert (plan["state"], plan["result"]) == ("cancelled", None)
    # The runner goes on with the next one.
    assert len(ids(pool, made(pool, budget=3))) == 3


def test_a_plan_of_a_pool_that_is_deleted_meanwhile_fails_with_the_reason(
    live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch
):
    pool.add(unlabelled(9))
    gate = Gate(monkeypatch)
    plan_id = started(pool, budget=3)
    assert gate.reached.wait(60)
    live.http.delete(f"/v1/pools/{pool.name}")
    gate.open.set()
    plan = finished(pool, plan_id)
    assert plan["pool"] is None
    assert plan["state"] in {"cancelled", "failed"}


def test_a_plan_that_was_cut_short_is_made_at_the_next_start(tmp_path: Path):
    with running(tmp_path) as live:
        live.create().add(unlabelled(9))
        pool_id = live.services.store.get_pool("tickets").id
    now = datetime.now(UTC)
    with Store(f"sqlite:///{tmp_path}/store.sqlite") as store:
        store.add_job(
            Job(
                id="cut",
                kind="plan",
                pool_id=pool_id,
                params={"request": {"pool": "tickets", "budget": 4}, "version": 1},
                state=JobState.RUNNING,
                done=3,
                total=9,
                phase="graph",
                result=None,
                error=None,
                created_at=now,
                updated_at=now,
            )
        )
    with running(tmp_path) as live:
        pool = live.pool()
        assert len(ids(pool, finished(pool, "cut"))) == 4


def test_a_plan_whose_index_does_not_catch_up_fails_with_the_reason(
    live: Live, pool: LivePool, monkeypatch: pytest.MonkeyPatch
):
    pool.add(unlabelled(3))
    monkeypatch.setattr(work, "STALLED_S", 0.3)
    pool_id = live.services.store.get_pool(pool.name).id
    job = live.services._runner.submit(
        "plan", pool_id, {"request": {"pool": pool.name, "budget": 2}, "version": 99}
    )
    plan = finished(pool, job.id)
    assert (plan["state"], plan["error"]["code"]) == ("failed", "unavailable")
    assert "wanted 99" in plan["error"]["detail"]


# --- for labelling tools ---


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
