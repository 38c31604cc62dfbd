"""``method: auto``: a policy chooses how demonstrations are chosen, and learns from what comes back."""

from typing import Any
from uuid import uuid4

import pytest

from tests.test_server.live import Live, LivePool, pointers, the_problem, tickets

QUERY = "my invoice was charged twice"


@pytest.fixture
def filled(pool: LivePool) -> LivePool:
    pool.add(tickets(30))
    return pool


def create(live: Live, variants: list[dict[str, Any]], **settings: Any) -> str:
    name = f"policy-{uuid4().hex}"
    body = {"name": name, "variants": variants, "context": {"dimension": 0}, **settings}
    response = live.http.post("/v1/policies", json=body)
    assert response.status_code == 201, response.text
    return name


METHODS = [
    {"name": "near", "selector": {"method": "similarity", "k": 3}},
    {"name": "varied", "selector": {"method": {"type": "mmr", "diversity": 0.2}, "k": 2}},
]


def test_the_variant_says_method_and_size(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS, algorithm="uniform")
    seen = set()
    for _ in range(30):
        reply = filled.select(QUERY, method={"type": "auto", "policy": policy})
        wanted = {"near": ("similarity", 3), "varied": ("mmr", 2)}[reply["variant"]]
        assert (reply["method"], len(reply["demonstrations"])) == wanted
        decision = live.http.get(f"/v1/decisions/{reply['decision_id']}").raise_for_status().json()
        assert (decision["variant"], decision["policy"]) == (reply["variant"], policy)
        seen.add(reply["variant"])
    assert seen == {"near", "varied"}


def test_what_the_request_says_of_the_size_stands(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS[:1])
    reply = filled.select(QUERY, k=5, method={"type": "auto", "policy": policy})
    assert (reply["method"], len(reply["demonstrations"])) == ("similarity", 5)


def test_feedback_on_the_selection_teaches_the_policy(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS, algorithm="uniform")
    values = {"near": 1.0, "varied": 0.25}
    counts = dict.fromkeys(values, 0)
    for _ in range(20):
        reply = filled.select(QUERY, method={"type": "auto", "policy": policy})
        counts[reply["variant"]] += 1
        told = live.http.post(
            "/v1/feedback", json={"selection_id": reply["selection_id"], "value": values[reply["variant"]]}
        ).json()
        assert told["folded"]
        outcome = live.http.get(f"/v1/decisions/{reply['decision_id']}").json()["outcome"]
        assert outcome == pytest.approx(values[reply["variant"]], abs=1e-4)
    report = live.http.get(f"/v1/policies/{policy}/report").json()
    for arm in report["arms"]:
        assert arm["outcomes"] == counts[arm["variant"]]
        assert arm["mean"] == pytest.approx(values[arm["variant"]], abs=1e-4)
    # The same outcome is about the demonstrations as well.
    page = filled.request("GET", "/utilities").json()
    assert page["selections"] == 20


def test_a_subject_is_erased_with_what_was_selected_for_it(live: Live, filled: LivePool) -> None:
    policy, subject = create(live, METHODS), f"ann-{uuid4().hex}"
    method = {"type": "auto", "policy": policy}
    hers = filled.select(QUERY, method={**method, "subject_id": subject})
    other = filled.select(QUERY, method=method)
    for one in (hers, other):
        body = {"selection_id": one["selection_id"], "value": 1.0, "tags": {"name": "Ann"}}
        live.http.post("/v1/feedback", json=body).raise_for_status()
    erased = live.http.post("/v1/decisions:delete", json={"subject_id": subject})
    assert erased.json() == {"deleted": 1}
    gone, kept = hers["selection_id"], other["selection_id"]
    assert live.http.get(f"/v1/selections/{gone}").status_code == 404
    assert live.http.get(f"/v1/selections/{kept}").status_code == 200
    told = live.services.store.feedback_of("selection", [gone, kept])
    assert [len(told[one]) for one in (gone, kept)] == [0, 1]
    assert live.http.get(f"/v1/policies/{policy}").json()["outcomes"] == 1


def test_a_pool_may_ask_a_policy_by_default(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS[:1])
    filled.patch(select={"method": "auto", "params": {"auto": {"policy": policy}}})
    reply = filled.select(QUERY)
    assert (reply["variant"], reply["method"]) == ("near", "similarity")
    # A request that names a method has it.
    assert filled.select(QUERY, method="bm25")["variant"] is None


def test_a_session_keeps_its_method(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS, algorithm="uniform")
    method = {"type": "auto", "policy": policy, "session_key": "ann"}
    assert len({filled.select(f"{QUERY} {i}", method=method)["variant"] for i in range(12)}) == 1


def test_batches_and_prompts_ask_too(live: Live, filled: LivePool) -> None:
    policy = create(live, METHODS[:1])
    method = {"type": "auto", "policy": policy}
    body = {"queries": [{"inputs": QUERY, "method": method}, {"inputs": "my password", "method": method}]}
    results = filled.request("POST", "/select:batch", body).json()["results"]
    assert [one["selection"]["variant"] for one in results] == ["near", "near"]
    assert len({one["selection"]["decision_id"] for one in results}) == 2
    rendered = filled.request("POST", "/render", {"inputs": QUERY, "method": method}).json()
    assert rendered["selection"]["variant"] == "near"


@pytest.mark.parametrize(
    ("method", "pointer", "status"),
    [
        ("auto", "/method/policy", 422),
        ({"type": "auto"}, "/method/policy", 422),
        ({"type": "auto", "policy": "x", "depth": 3}, "/method/depth", 422),
    ],
)
def test_what_is_missing_or_unknown_is_named(
    filled: LivePool, method: Any, pointer: str, status: int
) -> None:
    problem = filled.problem("/select", {"inputs": QUERY, "method": method}, status)
    assert pointers(problem) == [pointer]


def test_a_policy_that_there_is_not_and_variants_without_selector(live: Live, filled: LivePool) -> None:
    missing = filled.problem("/select", {"inputs": QUERY, "method": {"type": "auto", "policy": "no"}}, 404)
    assert missing["code"] == "policy_not_found"
    policy = create(live, [{"name": "bare"}])
    problem = filled.problem("/select", {"inputs": QUERY, "method": {"type": "auto", "policy": policy}})
    assert "'bare', which names no selector" in problem["detail"]
    circle = live.http.post(
        "/v1/policies",
        json={
            "name": f"policy-{uuid4().hex}",
            "variants": [{"name": "circle", "selector": {"method": "auto"}}],
        },
    )
    the_problem(circle)
