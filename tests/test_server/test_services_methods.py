"""Parameters of methods that depend on the pool: difficulties, labels by name, signals that it lacks."""

from typing import Any

import pytest

from tests.test_server.live import Live, LivePool, codes, ids, pointers, the_problem, tickets

QUERY = "the invoice number3 was charged twice on my card"
ROWS = {row["id"]: row for row in tickets(60)}


@pytest.fixture(scope="module")
def corpus(live: Live) -> LivePool:
    """Sixty tickets with a difficulty in their metadata; only to be read."""
    pool = live.create("graded", difficulty_field="metadata.hard")
    pool.add(ROWS.values())
    return pool


@pytest.fixture(scope="module")
def plane(live: Live) -> LivePool:
    """Vectors of the caller's own and numbers to tell them apart."""
    pool = live.create("graded-plane", embedder={"type": "external", "dimension": 2})
    pool.add(
        {
            "id": f"v{i}",
            "inputs": f"text {i}",
            "outputs": "x",
            "vector": [1, i / 10],
            "metadata": {"hard": 9 - i},
        }
        for i in range(10)
    )
    return pool


def hardness(chosen):
    return [one["metadata"]["hard"] for one in chosen["demonstrations"]]


def test_a_curriculum_follows_the_pools_difficulty(corpus: LivePool):
    chosen = corpus.select(QUERY, method="cds", k=5, order="as_selected", explain=True)
    assert hardness(chosen) == sorted(hardness(chosen))
    assert hardness(chosen)[0] <= 2
    assert hardness(chosen)[-1] >= 8
    assert chosen["explain"]["diagnostics"] == {"levels": 11, "unknown": 0}
    assert chosen["usage"]["candidates"] == 60


def test_another_difficulty_field_holds_at_once(live: Live):
    pool = live.create("regraded", difficulty_field="metadata.hard")
    pool.add(tickets(30))
    pool.patch(difficulty_field="metadata.priority")
    chosen = pool.select(QUERY, method="cds", k=4, order="as_selected")
    assert [one["metadata"]["priority"] for one in chosen["demonstrations"]] == [0, 1, 2, 3]
    pool.patch(difficulty_field="metadata.lang")
    problem = pool.problem("/select", {"inputs": QUERY, "method": "cds"})
    assert "no eligible example has a number in 'metadata.lang'" in problem["detail"]


def test_without_a_difficulty_field_longer_inputs_are_harder(live: Live):
    pool = live.create("ungraded")
    pool.add({"id": f"w{i}", "inputs": " ".join(["word"] * i), "outputs": "x"} for i in range(1, 13))
    chosen = pool.select("word word", method="cds", k=4, order="as_selected")
    lengths = [len(one["inputs"].split()) for one in chosen["demonstrations"]]
    assert [(length - 1) // 3 for length in lengths] == [0, 1, 2, 3]


def test_longer_outputs_are_harder_where_the_pool_says_so(live: Live):
    pool = live.create("by-output", difficulty_field="output_length", select={"order": "easy_to_hard"})
    # Some are too long to be labels, and one has two fields; none is as long as the others.
    outputs = ["x" * size for size in (1, 5, 9, 250, 300, 4_000)]
    rows = [{"id": f"o{i}", "inputs": f"word {i}", "outputs": text} for i, text in enumerate(outputs)]
    pool.add([*rows, {"id": "fields", "inputs": "word 7", "outputs": {"a": "b", "c": "d"}}])

    def chosen(**options):
        return ids(pool.select("word", **options))

    # "a: b\nc: d" has 9 characters as well.
    for method in ("cds", "similarity"):
        found = chosen(k=7, method=method)
        assert (found[:2], set(found[2:4]), found[4:]) == (["o0", "o1"], {"o2", "fields"}, ["o3", "o4", "o5"])
    easy, middle, hard = chosen(k=3, method="cds")
    assert easy in {"o0", "o1"}
    assert middle in {"o2", "fields"}
    assert hard in {"o3", "o4", "o5"}
    # Another answer of the same example counts at once.
    pool.add([{**rows[0], "outputs": "x" * 5_000}])
    assert chosen(k=7, method="cds")[-1] == "o0"
    assert pool.request("PATCH", "", {"settings": {"difficulty_field": "outputs"}}).status_code == 422


def test_a_pool_without_tokens_needs_a_difficulty_field(plane: LivePool):
    body = {"vector": [1, 0], "method": "cds", "k": 3}
    problem = the_problem(plane.request("POST", "/select", body))
    assert "set the pool's `difficulty_field`" in problem["detail"]
    assert "cds" not in problem["detail"].split("work here: ")[1].split(", ")
    plane.patch(difficulty_field="metadata.hard")
    assert hardness(plane.select(None, order="as_selected", **body)) == [2, 5, 9]
    plane.patch(difficulty_field=None)


def test_labels_are_balanced_by_name(corpus: LivePool):
    method = {"type": "label_balanced", "quotas": {"login": 3, "setup": 1}}
    chosen = corpus.select(QUERY, method=method, k=4, explain=True)
    assert sorted(one["label"] for one in chosen["demonstrations"]) == ["login", "login", "login", "setup"]
    assert chosen["explain"]["diagnostics"]["unmet"] == {}
    assert chosen["explain"]["params"]["quotas"] == {"login": 3, "setup": 1}


def test_an_unknown_label_is_refused_with_those_of_the_pool(corpus: LivePool):
    method = {"type": "label_balanced", "quotas": {"logon": 3}}
    problem = corpus.problem("/select", {"inputs": QUERY, "method": method})
    assert problem["code"] == "invalid_parameter"
    assert pointers(problem) == ["/method/quotas"]
    assert "'logon'" in problem["detail"]
    assert "'billing', 'delivery', 'login', 'returns', 'setup'" in problem["detail"]


@pytest.mark.parametrize("quotas", [{}, {"login": 0}, {"login": "2"}, {"login": 1.5}, "most", 3, None])
def test_quotas_of_another_form_are_refused(quotas: object, corpus: LivePool):
    method = {"type": "label_balanced", "quotas": quotas}
    problem = corpus.problem("/select", {"inputs": QUERY, "method": method})
    assert problem["code"] == "invalid_parameter"
    assert all(pointer.startswith("/method/quotas") for pointer in pointers(problem))


@pytest.mark.parametrize("name", ["max_labels", "min_per_label"])
def test_whole_numbers_know_no_bound(name: str, corpus: LivePool):
    chosen = corpus.select(QUERY, method={"type": "label_balanced", name: 10**400}, k=5)
    few = 60 if name == "max_labels" else 1
    assert ids(chosen) == ids(corpus.select(QUERY, method={"type": "label_balanced", "max_labels": few}, k=5))


@pytest.mark.parametrize(
    ("method", "allowed"),
    [
        ({"type": "fused", "bsr": 1e308}, "<= 1e+06"),
        ({"type": "hybrid", "bm25": 1e7}, "<= 1e+06"),
        ({"type": "mmr", "relevance": "fused", "bm25": 10**400}, ""),
        ({"type": "set_bsr", "add_cand_score": 1e-320}, ">= 1e-06"),
        ({"type": "sift", "noise": 0}, "> 0"),
        ({"type": "structural", "max_words": 9}, "<= 8"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(method: dict[str, Any], allowed: str, corpus: LivePool):
    problem = corpus.problem("/select", {"inputs": QUERY, "method": method})
    assert problem["code"] == "invalid_parameter"
    assert pointers(problem) == [f"/method/{list(method)[-1]}"]
    assert allowed in problem["errors"][0]["message"]


@pytest.mark.parametrize("method", ["mmr", "dpp", "label_balanced"])
def test_a_fused_relevance_goes_without_what_the_pool_lacks(method: str, plane: LivePool):
    fused = {"type": method, "relevance": "fused"}
    chosen = plane.select(None, vector=[1, 0.3], method=fused, k=3)
    assert codes(chosen) == ["signal_absent", "near_identical"]
    assert chosen["warnings"][0]["message"] == f"{method} goes without bsr"
    assert ids(chosen) == ids(plane.select(None, vector=[1, 0.3], method=method, k=3))


def test_mmr_without_diversity_ranks_by_the_fused_relevance(corpus: LivePool):
    weights = {"similarity": 0.5, "bsr": 1, "bm25": 2}
    fused = corpus.select(QUERY, method={"type": "fused", **weights}, k=6)
    mmr = {"type": "mmr", "relevance": "fused", "diversity": 0, **weights}
    assert ids(corpus.select(QUERY, method=mmr, k=6)) == ids(fused)


def test_knapsack_packing_keeps_within_the_budget(corpus: LivePool):
    chosen = corpus.select(QUERY, method="similarity", k=9, max_tokens=60, packing="knapsack")
    assert 0 < chosen["usage"]["tokens"] <= 60
