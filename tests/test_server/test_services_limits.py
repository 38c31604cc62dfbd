"""What limits a set beside k: repetitions, gain per token, time, an engine's blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.server.services.pace import Pace
from tests.test_server.live import UNSCORED, Live, LivePool, codes, ids, pointers, running, tickets

QUERY = "the invoice number3 was charged twice on my card"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("limits")) as started:
        yield started


@pytest.fixture
def pool(live: Live, request: pytest.FixtureRequest) -> LivePool:
    made = live.create(f"p{abs(hash(request.node.name)) % 10**9}")
    made.add(tickets(40))
    return made


# --- repetitions ---


def copies(count: int) -> list[dict[str, Any]]:
    return [{"id": f"copy{i}", "inputs": QUERY, "outputs": "billing"} for i in range(count)]


@pytest.mark.parametrize("method", ["similarity", "mmr", "fused", "set_bsr", "random"])
def test_equal_content_is_shown_once_and_k_are_found_all_the_same(method: str, pool: LivePool):
    pool.add(copies(60))
    chosen = pool.select(QUERY, k=12, method=method)
    assert len(ids(chosen)) == 12
    assert sum(name.startswith("copy") for name in ids(chosen)) <= 1
    assert chosen["usage"]["eligible"] == 41


def test_a_copy_that_may_be_chosen_stands_in_for_one_that_may_not(pool: LivePool):
    pool.add(copies(2))
    chosen = pool.select(QUERY, k=1, method="similarity", exclude={"ids": ["copy0"]})
    assert ids(chosen) == ["copy1"]


def test_copies_are_all_shown_to_who_asks_for_them(pool: LivePool):
    pool.add(copies(4))
    chosen = pool.select(QUERY, k=4, method="similarity", distinct={"content": False})
    assert sorted(ids(chosen)) == ["copy0", "copy1", "copy2", "copy3"]


def test_equal_inputs_with_other_outputs_are_no_repetition(pool: LivePool):
    pool.add([*copies(1), {"id": "other", "inputs": QUERY, "outputs": "refund"}])
    assert set(ids(pool.select(QUERY, k=2, method="similarity"))) == {"copy0", "other"}


@pytest.mark.parametrize("method", ["similarity", "mmr", "dpp", "fused", "label_balanced", "random"])
def test_near_duplicates_are_passed_over(method: str, pool: LivePool):
    pool.add([{"id": f"near{i}", "inputs": f"{QUERY} please {i}", "outputs": "billing"} for i in range(9)])
    chosen = pool.select(QUERY, k=6, method=method, distinct={"similarity": 0.8}, explain=True)
    assert len(ids(chosen)) == 6
    assert sum(name.startswith("near") for name in ids(chosen)) <= 1
    if method == "similarity":
        plain = pool.select(QUERY, k=6, method=method)
        assert sum(name.startswith("near") for name in ids(plain)) == 6
        assert chosen["explain"]["diagnostics"]["near_duplicates"] >= 8


@pytest.fixture(scope="module")
def crowded(live: Live) -> LivePool:
    """More near copies of the query than any shortlist holds, among rows enough for shortlists."""
    made = live.create("crowded")
    made.add(tickets(2_500))
    made.add({"id": f"near{i}", "inputs": f"{QUERY} please {i}", "outputs": "billing"} for i in range(900))
    return made


@pytest.mark.parametrize("method", UNSCORED)
def test_k_that_differ_are_found_where_a_shortlist_holds_near_duplicates_only(method: str, crowded: LivePool):
    options = {"k": 6, "method": method, "distinct": {"similarity": 0.8}}
    found = crowded.select(QUERY, explain=True, **options)
    assert len(ids(found)) == 6
    assert codes(found) == []
    texts = [one["inputs"] for one in found["demonstrations"]]
    vectors = HashingEmbedder().encode(texts, token_layer=None).vectors
    assert (vectors @ vectors.T - np.eye(6)).max() < 0.8
    exact = crowded.select(QUERY, exact=True, **options)
    assert exact["exactness"] == "exact"
    if found["exactness"] == "exact":
        assert ids(found) == ids(exact)
    if method in {"similarity", "mmr", "sift"}:
        reasons = [one["reason"] for one in found["explain"]["rejected"]]
        assert sum(reason.startswith("distinct") for reason in reasons) == 5


def test_near_duplicates_of_picks_are_named_with_what_they_repeat(pool: LivePool):
    pool.add([{"id": f"near{i}", "inputs": f"{QUERY} please {i}", "outputs": "billing"} for i in range(3)])
    chosen = pool.select(QUERY, k=6, method="similarity", distinct={"similarity": 0.8}, explain=True)
    (kept,) = [one for one in ids(chosen) if one.startswith("near")]
    repeated = [one for one in chosen["explain"]["rejected"] if one["reason"].startswith("distinct")]
    assert {one["id"] for one in repeated} >= {"near0", "near1", "near2"} - {kept}
    embedder = HashingEmbedder()
    for one in repeated:
        if one["id"].startswith("near"):
            texts = [f"{QUERY} please {name[-1]}" for name in (one["id"], kept)]
            vectors = embedder.encode(texts, token_layer=None).vectors
            assert one["reason"] == f"distinct: its cosine to {kept!r} is {vectors[0] @ vectors[1]:.3f}"


def test_the_stable_core_is_not_repeated_either(live: Live):
    pool = live.create("copies")
    pool.add([{**row, "id": f"{row['id']}-{copy}"} for row in tickets(5) for copy in range(6)])
    for options in ({}, {"distinct": {"content": False}}):
        chosen = pool.select(QUERY, k=8, method="similarity", stable={"k": 4}, **options)
        texts = [one["inputs"] for one in chosen["demonstrations"]]
        assert len(set(texts[:4])) == 4, "the core itself never repeats anything"
        assert len(texts) == (8 if options else 5)
        assert options or len(set(texts)) == 5
    assert len(core(pool.select(QUERY, k=8, method="similarity", stable={"k": 8}))) == 5
    # Another copy stands in for one that may not be shown, and its own copies are no dynamic part.
    first = core(pool.select(QUERY, k=4, stable={"k": 4}))
    chosen = pool.select(QUERY, k=8, method="similarity", stable={"k": 4}, exclude={"ids": first[:1]})
    assert core(chosen) == first[1:]
    texts = [one["inputs"] for one in chosen["demonstrations"]]
    assert len(set(texts)) == len(texts) == 5


def test_no_two_of_core_and_tail_are_near_duplicates(live: Live):
    pool = live.create("near-core")
    pool.add(
        {"id": f"{number}-{copy}", "inputs": f"{row['inputs']} please {copy}", "outputs": row["outputs"]}
        for number, row in enumerate(tickets(5))
        for copy in range(6)
    )
    cores = set()
    for query in (QUERY, "wifi", "my parcel is late"):
        for method in ("similarity", "random", "set_bsr"):
            chosen = pool.select(query, k=5, method=method, stable={"k": 4}, distinct={"similarity": 0.8})
            texts = [one["inputs"] for one in chosen["demonstrations"]]
            vectors = HashingEmbedder().encode(texts, token_layer=None).vectors
            assert (vectors @ vectors.T - np.eye(len(texts))).max() < 0.8
            assert len(texts) == 5
            cores.add(tuple(core(chosen)))
    assert len(cores) == 1
    ((*members,),) = cores
    assert len(members) >= 2


# --- gain per token ---


def test_the_set_ends_where_more_is_not_worth_its_tokens(pool: LivePool):
    whole = pool.select(
        QUERY, k=8, method="similarity", order="as_selected", adaptive={"min_gain_per_token": 0}
    )
    rates = [step["gain_per_token"] for step in whole["curve"]]
    assert [step["id"] for step in whole["curve"]] == ids(whole)
    assert all(step["kept"] for step in whole["curve"])
    assert rates == pytest.approx([step["gain"] / step["tokens"] for step in whole["curve"]])
    threshold = sorted(rates)[3]
    fewer = pool.select(
        QUERY, k=8, method="similarity", order="as_selected", adaptive={"min_gain_per_token": threshold}
    )
    kept = next(place for place, rate in enumerate(rates) if rate < threshold)
    assert ids(fewer) == ids(whole)[: max(kept, 1)]
    assert [step["kept"] for step in fewer["curve"]] == [place < max(kept, 1) for place in range(8)]
    assert codes(fewer) == [], "fewer than k was asked for"


def test_picks_that_are_not_worth_their_tokens_are_named(pool: LivePool):
    options = {"k": 6, "method": "similarity", "explain": True}
    whole = pool.select(QUERY, adaptive={"min_gain_per_token": -1}, **options)["curve"]
    least = (whole[2]["gain_per_token"] + whole[3]["gain_per_token"]) / 2
    chosen = pool.select(QUERY, adaptive={"min_gain_per_token": least}, **options)
    assert len(ids(chosen)) == 3
    cut = [one for one in chosen["explain"]["rejected"] if one["reason"].startswith("adaptive")]
    assert [one["id"] for one in cut] == [step["id"] for step in whole[3:]]
    assert cut[0]["reason"] == (
        f"adaptive: gains {whole[3]['gain_per_token']:.3g} per token, less than {least:.3g}"
    )


def test_without_adaptive_there_is_no_curve(pool: LivePool):
    assert pool.select(QUERY)["curve"] == []


# --- exactness ---


@pytest.mark.parametrize("method", ["similarity", "fused", "set_bsr", "bsr", "random"])
def test_a_small_pool_is_answered_exactly(method: str, pool: LivePool):
    for exact in (False, True):
        assert pool.select(QUERY, method=method, exact=exact)["exactness"] == "exact"


def test_a_shortlist_says_so_and_exact_rules_it_out(live: Live):
    pool = live.create("large")
    pool.add(tickets(3_000))
    few = pool.select(QUERY, method="mmr", k=4)
    assert (few["exactness"], few["usage"]["candidates"] < 1_000) == ("approximate", True)
    every = pool.select(QUERY, method="mmr", k=4, exact=True)
    assert (every["exactness"], every["usage"]["candidates"]) == ("exact", every["usage"]["eligible"])
    assert ids(every) == ids(few)
    nearest = pool.select(QUERY, method="similarity", k=4)
    assert (nearest["exactness"], nearest["usage"]["candidates"] < 100) == ("exact", True), (
        "all were compared"
    )


def test_words_alone_are_exact_though_few_rows_are_looked_at(live: Live):
    pool = live.create("many-words")
    pool.add(tickets(3_000))
    # Rows that share a word: most of a label's, one, one and the nearest others, none.
    for query in (QUERY, "number17", "number17 vacuum cleaner", "vacuum cleaner"):
        found = pool.select(query, method="bm25", k=12)
        assert (found["exactness"], found["usage"]["candidates"] < 1_000) == ("exact", True)
        assert ids(found) == ids(pool.select(query, method="bm25", k=12, exact=True))


# --- time ---


def test_a_method_that_would_be_late_is_replaced_and_said_so(pool: LivePool, live: Live):
    runtime = live.services.registry.get(pool.name)
    for _ in range(2):
        runtime.pace.took("bsr", 5_000.0)
        runtime.pace.took("fused", 4_000.0)
    chosen = pool.select(QUERY, method="bsr", deadline_ms=2_000)
    assert (chosen["method"], chosen["degraded"], codes(chosen)) == ("similarity", True, ["degraded"])
    assert "bsr takes up to" in chosen["warnings"][0]["message"]
    assert len(ids(chosen)) == 8
    assert 'kshot_select_total{outcome="degraded"' in live.http.get("/metrics").text


def test_the_better_of_the_methods_that_are_in_time_answers(pool: LivePool, live: Live):
    live.services.registry.get(pool.name).pace.took("bsr", 5_000.0)
    assert pool.select(QUERY, method="bsr", deadline_ms=2_000)["method"] == "fused"


@pytest.mark.parametrize("method", ["mmr", "sift", "bm25", "label_balanced", "cds", "random"])
def test_a_method_that_reads_no_tokens_is_not_replaced_by_one_that_does(
    method: str, pool: LivePool, live: Live
):
    live.services.registry.get(pool.name).pace.took(method, 5_000.0)
    assert pool.select(QUERY, method=method, deadline_ms=2_000)["method"] == "similarity"


def test_a_stand_in_that_takes_longer_is_none(pool: LivePool, live: Live):
    pace = live.services.registry.get(pool.name).pace
    pace.took("bsr", 5_000.0)
    pace.took("fused", 6_000.0)
    assert pool.select(QUERY, method="bsr", deadline_ms=2_000)["method"] == "similarity"
    pace.took("similarity", 5_500.0)
    chosen = pool.select(QUERY, method="bsr", deadline_ms=2_000)
    assert (chosen["method"], chosen["degraded"]) == ("bsr", False)


def test_exact_and_approximate_runs_are_timed_apart(pool: LivePool, live: Live):
    live.services.registry.get(pool.name).pace.took("set_bsr", 5_000.0, exact=True)
    fast = pool.select(QUERY, method="set_bsr", deadline_ms=2_000)
    assert (fast["method"], fast["degraded"]) == ("set_bsr", False)
    slow = pool.select(QUERY, method="set_bsr", deadline_ms=2_000, exact=True)
    assert (slow["method"], slow["degraded"]) == ("fused", True)


def test_a_method_in_time_answers_itself(pool: LivePool):
    for _ in range(2):
        chosen = pool.select(QUERY, method="mmr", deadline_ms=60_000)
        assert (chosen["method"], chosen["degraded"], codes(chosen)) == ("mmr", False, [])


def test_without_a_deadline_the_past_does_not_matter(pool: LivePool, live: Live):
    live.services.registry.get(pool.name).pace.took("bsr", 5_000.0)
    assert pool.select(QUERY, method="bsr")["method"] == "bsr"


def test_a_stand_in_that_the_query_does_not_allow_is_passed_over(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create("own", embedder={"type": "external", "dimension": 2})
        rows = [
            {"id": f"r{i}", "inputs": "a", "outputs": f"o{i}", "vector": [1.0, float(i)]} for i in range(9)
        ]
        pool.add(rows)
        live.services.registry.get("own").pace.took("bm25", 5_000.0)
        chosen = pool.select("a", method="bm25", deadline_ms=2_000)
        assert (chosen["method"], codes(chosen)) == ("bm25", []), "without a vector nothing else works"


def test_estimates_rise_at_once_and_fade_slowly():
    pace = Pace()
    assert pace.expected_ms("m") is None
    for took_ms in (10.0, 50.0, 10.0):
        pace.took("m", took_ms)
    assert pace.expected_ms("m") == pytest.approx(46.0)
    for _ in range(200):
        pace.took("m", 10.0)
    assert pace.expected_ms("m") == pytest.approx(10.0, abs=1e-6)


def test_a_method_passed_over_gets_its_chance_again():
    pace = Pace()
    pace.took("m", 50.0)
    times = 0
    while (pace.expected_ms("m") or 0.0) > 10.0:
        pace.passed_over("m")
        times += 1
    assert 10 < times < 200
    pace.passed_over("unknown")
    assert pace.expected_ms("unknown") is None


# --- an engine's blocks ---


def core(chosen: Any) -> list[str]:
    return [one["id"] for one in chosen["demonstrations"] if one["part"] == "stable"]


@pytest.mark.parametrize("block", [5, 16, 64])
def test_the_core_leaves_the_fewest_tokens_beyond_a_block(block: int, pool: LivePool):
    length = {
        count: pool.select(QUERY, k=8, stable={"k": count})["usage"]["prefix_tokens"] for count in range(1, 7)
    }
    chosen = pool.select(QUERY, k=8, stable={"k": 6, "block_tokens": block})
    best = min(length, key=lambda count: (length[count] % block, -count))
    assert len(core(chosen)) == best
    assert chosen["usage"]["prefix_tokens"] == length[best]
    assert chosen["usage"]["cacheable_tokens"] == length[best] - length[best] % block
    assert len(ids(chosen)) == 8


def test_without_a_block_size_the_whole_prefix_counts(pool: LivePool):
    usage = pool.select(QUERY, stable={"k": 2})["usage"]
    assert usage["cacheable_tokens"] == usage["prefix_tokens"] > 0
    assert pool.select(QUERY)["usage"]["prefix_tokens"] == 0


def test_the_system_text_is_part_of_the_prefix(live: Live):
    pool = live.create("with-system", prompt={"system": "Answer with one label."})
    pool.add(tickets(5))
    usage = pool.select(QUERY, k=2)["usage"]
    assert usage["prefix_tokens"] == usage["cacheable_tokens"] == 7


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"deadline_ms": 0}, "/deadline_ms"),
        ({"adaptive": {}}, "/adaptive/min_gain_per_token"),
        ({"adaptive": {"min_gain_per_token": "much"}}, "/adaptive/min_gain_per_token"),
        ({"distinct": {"similarity": 0}}, "/distinct/similarity"),
        ({"distinct": {"similarity": 1.5}}, "/distinct/similarity"),
        ({"stable": {"k": 1, "block_tokens": 0}}, "/stable/block_tokens"),
        ({"sticky": {"clusters": 0}}, "/sticky/clusters"),
        ({"exact": "yes"}, "/exact"),
    ],
)
def test_wrong_limits_are_refused_by_name(options: Any, pointer: str, pool: LivePool):
    assert pointers(pool.problem("/select", {"inputs": QUERY, **options})) == [pointer]
