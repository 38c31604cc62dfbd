"""Plans over the real service: requests that are refused at once, and by which field."""

from typing import Any

import pytest

from tests.test_server.live import Live, LivePool, pointers, the_problem, tickets
from tests.test_server.live_plans import ask, refused, unlabelled


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
    rows = tickets(8)
    pool.add(rows)
    assert "6 examples take part, and all have outputs; upload" in refused(pool, budget=3)["detail"]
    pool.add([{"id": "again", "inputs": rows[1]["inputs"]}])
    assert "outputs, 1 others repeat the inputs of one of them; upload" in refused(pool, budget=3)["detail"]
