"""`select` over the real service: every method, what it may choose from, and what it says about it."""

import dataclasses
import itertools
from typing import Any

import pytest

from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.records import content_hash
from kshot.selectors import SELECTORS
from tests import oracles
from tests.test_server.live import UNSCORED, Live, LivePool, codes, ids, pointers, tickets, wait_until

METHODS = UNSCORED
QUERY = "the invoice number3 was charged twice on my card"
ROWS = {row["id"]: row for row in tickets(60)}


@pytest.fixture(scope="module")
def corpus(live: Live) -> LivePool:
    """Sixty tickets and three rows that no request gets by itself; only to be read."""
    pool = live.create("corpus")
    hidden = [
        {"id": "retired", "inputs": QUERY, "outputs": "billing", "status": "retired"},
        {"id": "answered-draft", "inputs": QUERY, "outputs": "billing", "status": "draft"},
        {"id": "draft", "inputs": QUERY},
    ]
    assert pool.add([*ROWS.values(), *hidden])["accepted"] == 63
    return pool


def cosines(query, texts):
    vectors = HashingEmbedder().encode([query, *texts], token_layer=None).vectors.astype("float64")
    return (vectors[1:] @ vectors[0]).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_k_different_examples(method: str, corpus: LivePool):
    for k in (1, 7):
        chosen = corpus.select(QUERY, k=k, method=method)
        assert chosen["method"] == method
        assert len(set(ids(chosen))) == len(ids(chosen)) == k
        assert set(ids(chosen)) <= set(ROWS)
        assert [one["rank"] for one in chosen["demonstrations"]] == list(range(k))
        assert chosen["usage"]["eligible"] == 60
        assert chosen["warnings"] == []
        assert not chosen["abstained"]
        for one in chosen["demonstrations"]:
            row = ROWS[one["id"]]
            assert (one["inputs"], one["outputs"], one["metadata"]) == (
                row["inputs"],
                row["outputs"],
                row["metadata"],
            )
            assert (one["label"], one["part"], one["rendered"]) == (row["outputs"], "dynamic", None)
        expected = cosines(QUERY, [one["inputs"] for one in chosen["demonstrations"]])
        assert [one["similarity"] for one in chosen["demonstrations"]] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_the_filter_and_the_exclusions(method: str, corpus: LivePool):
    chosen = corpus.select(
        QUERY,
        k=60,
        method=method,
        filter={"all": [{"field": "metadata.lang", "in": ["en", "de"]}, {"field": "split", "eq": "train"}]},
        exclude={
            "ids": ["t00001", "nobody"],
            "groups": ["g3", "g5"],
            "content_hashes": [content_hash(ROWS["t00007"]["inputs"], ROWS["t00007"]["outputs"])],
        },
    )
    wanted = {
        key
        for key, row in ROWS.items()
        if row["metadata"]["lang"] != "fr"
        and row["split"] == "train"
        and key not in {"t00001", "t00007"}
        and row["group"] not in {"g3", "g5"}
    }
    assert set(ids(chosen)) == wanted
    assert chosen["usage"]["eligible"] == len(wanted)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_reproducible(method: str, corpus: LivePool):
    first, second = (corpus.select(QUERY, k=6, method=method, seed=11) for _ in range(2))
    assert first["demonstrations"] == second["demonstrations"]


def test_another_seed_gives_other_random_demonstrations(corpus: LivePool):
    sets = {tuple(ids(corpus.select(QUERY, k=6, method="random", seed=seed))) for seed in range(5)}
    assert len(sets) == 5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_all_where_there_are_fewer(method: str, corpus: LivePool):
    chosen = corpus.select(QUERY, k=100, method=method)
    assert set(ids(chosen)) == set(ROWS)
    assert codes(chosen) == ["fewer_than_k"]
    assert "60 of 100" in chosen["warnings"][0]["message"]


def test_each_similarity_is_its_own_when_the_whole_pool_is_chosen(pool: LivePool):
    pool.add(tickets(5))
    for method in METHODS:
        chosen = pool.select(QUERY, k=5, method=method, stable={"k": 2})["demonstrations"]
        expected = cosines(QUERY, [one["inputs"] for one in chosen])
        assert [one["similarity"] for one in chosen] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_nothing_where_nothing_is_eligible(method: str, corpus: LivePool):
    chosen = corpus.select(QUERY, method=method, filter={"field": "split", "eq": "dev"}, explain=True)
    assert chosen["demonstrations"] == []
    assert codes(chosen) == ["no_eligible"]
    assert (chosen["usage"]["eligible"], chosen["usage"]["tokens"], chosen["abstained"]) == (0, 0, False)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_itself(method: str, corpus: LivePool):
    chosen = corpus.select(
        QUERY,
        k=4,
        method=method,
        explain=True,
        filter={"field": "metadata.lang", "ne": "fr"},
        exclude={"splits": ["test"]},
    )
    explained = chosen["explain"]
    assert explained["method"] == method
    assert (explained["filter_matched"], explained["excluded"]) == (40, 10)
    declared: Any = SELECTORS.get(method)
    assert set(explained["params"]) == {field.name for field in dataclasses.fields(declared)}
    assert 1 <= len(explained["rejected"]) <= 5
    assert not {one["id"] for one in explained["rejected"]} & set(ids(chosen))
    assert all("when 9 are wanted" in one["reason"] for one in explained["rejected"])


def test_every_method_on_an_empty_pool(pool: LivePool):
    for method in METHODS:
        chosen = pool.select(QUERY, method=method, stable={"k": 2}, min_score=0.1)
        assert (chosen["demonstrations"], codes(chosen), chosen["abstained"]) == ([], ["no_eligible"], False)


# --- what may be chosen ---


def test_only_approved_examples_are_chosen_unless_the_filter_says_otherwise(corpus: LivePool):
    hidden = {"retired", "draft", "answered-draft"}
    assert not hidden & set(ids(corpus.select(QUERY, k=100)))
    by_id = {"field": "id", "in": sorted(hidden)}
    assert ids(corpus.select(QUERY, filter=by_id)) == []
    for status, wanted in (("retired", {"retired"}), ("draft", {"draft", "answered-draft"})):
        expression = {"all": [by_id, {"field": "status", "eq": status}]}
        assert set(ids(corpus.select(QUERY, filter=expression))) == wanted
    anything = {"not": {"field": "status", "eq": "nothing"}}
    distinct = {"content": False}
    assert len(corpus.select(QUERY, k=100, filter=anything, distinct=distinct)["demonstrations"]) == 63


def test_the_query_itself_can_be_left_out(corpus: LivePool):
    query = ROWS["t00020"]["inputs"]
    assert ids(corpus.select(query, k=1, method="similarity")) == ["t00020"]
    assert "t00020" not in ids(corpus.select(query, k=100, exclude={"same_content": True}))


def test_a_near_copy_of_the_query_is_reported(corpus: LivePool):
    chosen = corpus.select(ROWS["t00020"]["inputs"], k=3, method="similarity")
    assert codes(chosen) == ["near_identical"]
    assert "'t00020'" in chosen["warnings"][0]["message"]


def test_a_field_that_no_example_has_is_reported(corpus: LivePool):
    expression = {"any": [{"field": "metadata.langg", "eq": "en"}, {"field": "label", "eq": "login"}]}
    chosen = corpus.select(QUERY, k=3, filter=expression)
    # No ticket about logins is near this query.
    assert codes(chosen) == ["field_unseen", "coverage_gap"]
    assert "'metadata.langg'" in chosen["warnings"][0]["message"]
    assert chosen["set"]["labels"] == {"login": 3}


def test_demonstrations_reach_the_least_similarity(corpus: LivePool):
    everything = corpus.select(QUERY, k=60, method="similarity")
    similarities = sorted((one["similarity"] for one in everything["demonstrations"]), reverse=True)
    least = (similarities[4] + similarities[5]) / 2
    for method in METHODS:
        chosen = corpus.select(QUERY, k=8, method=method, min_score=least)
        assert len(chosen["demonstrations"]) == chosen["usage"]["eligible"] == 5
        assert all(one["similarity"] >= least for one in chosen["demonstrations"])


def test_without_a_similar_example_the_answer_abstains(corpus: LivePool):
    chosen = corpus.select(QUERY, min_score=0.99)
    assert (chosen["demonstrations"], chosen["abstained"]) == ([], True)
    assert codes(chosen) == ["fewer_than_k"]
    stored = corpus.live.http.get(f"/v1/selections/{chosen['selection_id']}").json()
    assert stored["abstained"]


def test_a_budget_that_nothing_fits_is_no_abstention(corpus: LivePool):
    chosen = corpus.select(QUERY, k=3, max_tokens=1, min_score=0.1)
    assert (chosen["demonstrations"], chosen["abstained"]) == ([], False)
    assert codes(chosen) == ["max_tokens"]


def test_deleted_and_changed_examples_are_never_served_again(pool: LivePool):
    pool.add(tickets(12))
    for method in METHODS:
        assert len(ids(pool.select(QUERY, k=12, method=method))) == 12
    pool.delete(ids=["t00000", "t00005"])
    pool.add([{**ROWS["t00003"], "inputs": "something else entirely", "outputs": "changed"}])
    pool.add([{**ROWS["t00010"], "status": "retired"}])
    for method in METHODS:
        chosen = pool.select(QUERY, k=12, method=method)
        assert set(ids(chosen)) == set(list(ROWS)[:12]) - {"t00000", "t00005", "t00010"}
        changed = next(one for one in chosen["demonstrations"] if one["id"] == "t00003")
        assert (changed["inputs"], changed["label"]) == ("something else entirely", "changed")
        texts = [one["inputs"] for one in chosen["demonstrations"]]
        assert [one["similarity"] for one in chosen["demonstrations"]] == pytest.approx(
            cosines(QUERY, texts), abs=1e-6
        )


# --- methods and their parameters ---


def test_an_unknown_method_is_refused_by_name(corpus: LivePool):
    for method, pointer in (("nearest", "/method"), ({"type": "nearest"}, "/method/type"), ("", "/method")):
        problem = corpus.problem("/select", {"inputs": QUERY, "method": method})
        assert problem["code"] == "unknown_selector"
        assert pointers(problem) == [pointer]
        assert all(name in problem["detail"] for name in METHODS)


@pytest.mark.parametrize(
    ("method", "pointer", "said"),
    [
        ({"type": "mmr", "lambda": 0.5}, "/method/lambda", "allowed: diversity"),
        ({"type": "mmr", "diversity": 1.5}, "/method/diversity", "received 1.5, allowed <= 1"),
        ({"type": "mmr", "diversity": "much"}, "/method/diversity", "received 'much', allowed a number"),
        ({"type": "dpp", "lam": 0}, "/method/lam", "received 0, allowed > 0"),
        ({"type": "label_balanced", "min_per_label": 1.5}, "/method/min_per_label", "an integer"),
        ({"type": "fused", "similarity": 0, "bsr": 0}, "/method/similarity", "at least one above 0"),
        ({"type": "similarity", "k": 3}, "/method/k", "allowed: nothing"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(method: object, pointer: str, said: str, corpus: LivePool):
    problem = corpus.problem("/select", {"inputs": QUERY, "method": method})
    assert problem["code"] == "invalid_parameter"
    assert pointers(problem) == [pointer]
    assert said in problem["errors"][0]["message"]


def test_parameters_of_the_request_come_before_those_of_the_pool(live: Live):
    params = {"fused": {"bm25": 2.0, "bsr": 0.5}, "mmr": {"diversity": 0.7}}
    pool = live.create("with-parameters", select={"method": "mmr", "k": 4, "params": params})
    pool.add(tickets(10))

    def ran(**options):
        explained = pool.select(QUERY, explain=True, **options)["explain"]
        return explained["method"], explained["params"]

    def otherwise_default(name, **given):
        selector: Any = SELECTORS.get(name)
        return name, dataclasses.asdict(selector(**given))

    assert ran() == otherwise_default("mmr", diversity=0.7)
    assert ran(method="mmr") == otherwise_default("mmr", diversity=0.7)
    assert ran(method={"type": "mmr", "diversity": 0.2}) == otherwise_default("mmr", diversity=0.2)
    assert ran(method={"type": "fused", "bsr": 3}) == otherwise_default("fused", bsr=3, bm25=2.0)
    assert ran(method="dpp") == otherwise_default("dpp", lam=0.02)
    # The pool's weights are those of the fused relevance, whichever method takes it.
    fused_dpp = {"type": "dpp", "relevance": "fused", "bm25": 1}
    assert ran(method=fused_dpp) == otherwise_default("dpp", relevance="fused", bsr=0.5, bm25=1)
    assert len(pool.select(QUERY)["demonstrations"]) == 4


def test_what_the_selectors_say_of_themselves_is_accepted(corpus: LivePool):
    listed = corpus.live.http.get("/v1/selectors").json()["data"]
    assert [one["name"] for one in listed] == sorted(SELECTORS.names())
    for one in (info for info in listed if info["name"] in METHODS):
        properties = one["parameters"]["properties"]
        method = {"type": one["name"], **{name: schema["default"] for name, schema in properties.items()}}
        assert len(corpus.select(QUERY, k=2, method=method)["demonstrations"]) == 2


def test_token_scores_weigh_the_words_of_the_query_alone(corpus: LivePool):
    embedder = HashingEmbedder()
    query = embedder.encode([QUERY], token_layer=1)
    assert query.tokens is not None
    assert query.special is not None
    words = query.tokens[~query.special]
    chosen = corpus.select(QUERY, k=60, method="bsr")["demonstrations"]
    features = embedder.encode([one["inputs"] for one in chosen], token_layer=1)
    assert features.tokens is not None
    assert features.offsets is not None
    rows = [features.tokens[start:end] for start, end in itertools.pairwise(features.offsets)]
    expected = oracles.maxsim(words, rows, [1 / len(words)] * len(words)).sum(axis=1)
    # Tokens are stored as float16.
    assert [one["score"] for one in chosen] == pytest.approx(expected.tolist(), abs=1e-3)


# --- the prompt order ---


@pytest.mark.parametrize("method", METHODS)
def test_orders_arrange_the_same_set(method: str, corpus: LivePool):
    picked = corpus.select(QUERY, k=8, method=method, order="as_selected")["demonstrations"]
    by_score = sorted(picked, key=lambda one: one["score"])
    last = corpus.select(QUERY, k=8, method=method)["demonstrations"]
    assert [one["id"] for one in last] == [one["id"] for one in by_score]
    first = corpus.select(QUERY, k=8, method=method, order="nearest_first")["demonstrations"]
    assert [one["score"] for one in first] == sorted((one["score"] for one in picked), reverse=True)
    lengths = corpus.select(QUERY, k=8, method=method, order="easy_to_hard")["demonstrations"]
    assert [one["tokens"] for one in lengths] == sorted(one["tokens"] for one in picked)
    for other in (first, lengths):
        assert {one["id"] for one in other} == {one["id"] for one in picked}


def test_a_shuffled_order_has_a_seed_of_its_own(corpus: LivePool):
    def shuffled(seed):
        return ids(corpus.select(QUERY, k=8, order={"type": "random", "seed": seed}))

    assert shuffled(1) == shuffled(1)
    assert len({tuple(shuffled(seed)) for seed in range(4)}) == 4
    assert len({tuple(sorted(shuffled(seed))) for seed in range(4)}) == 1
    seeded = ids(corpus.select(QUERY, k=8, order="random", seed=5))
    assert sorted(seeded) == sorted(shuffled(1))


def test_interleaved_labels_are_kept_apart(corpus: LivePool):
    chosen = corpus.select(QUERY, k=10, method="label_balanced", order="label_interleaved")
    labels = [one["label"] for one in chosen["demonstrations"]]
    assert all(before != after for before, after in itertools.pairwise(labels))


def test_difficulty_comes_from_the_metadata_if_the_pool_says_so(live: Live):
    pool = live.create("by-difficulty", difficulty_field="metadata.hard", select={"order": "easy_to_hard"})
    pool.add(tickets(9))
    chosen = pool.select(QUERY, k=9)["demonstrations"]
    assert [one["metadata"]["hard"] for one in chosen] == sorted(
        row["metadata"]["hard"] for row in tickets(9)
    )
    # One example without the number: lengths for all.
    pool.add([{**tickets(1)[0], "metadata": {}}, {**tickets(2)[1], "metadata": {"hard": 10**400}}])
    chosen = pool.select(QUERY, k=9)["demonstrations"]
    assert [one["tokens"] for one in chosen] == sorted(one["tokens"] for one in chosen)
    pool.add([tickets(1)[0]])
    assert ids(pool.select(QUERY, k=9))[-1] == "t00001"


def test_an_unknown_order_or_packing_is_refused_by_name(corpus: LivePool):
    for field, value, allowed in (
        ("order", "best_first", "nearest_last"),
        ("order", {"type": "sorted"}, "random"),
        ("packing", "all", "prefix_stop"),
    ):
        problem = corpus.problem("/select", {"inputs": QUERY, field: value})
        assert problem["errors"][0]["pointer"].startswith(f"/{field}")
        assert allowed in problem["errors"][0]["message"]


# --- the set as a whole ---


def test_the_set_is_described(corpus: LivePool):
    chosen = corpus.select(QUERY, k=4, method="similarity")
    texts = [one["inputs"] for one in chosen["demonstrations"]]
    pairs = [cosines(a, [b])[0] for a, b in itertools.combinations(texts, 2)]
    assert chosen["set"]["mean_pairwise"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert sum(chosen["set"]["labels"].values()) == 4
    assert chosen["usage"]["tokens"] == sum(one["tokens"] for one in chosen["demonstrations"])
    assert chosen["usage"]["estimated"]
    assert chosen["frame"] is None
    assert chosen["prefix_hash"] is None
    assert set(chosen["timing_ms"]) == {"embed", "filter", "select", "assemble", "total"}
    assert corpus.select(QUERY, k=1)["set"]["mean_pairwise"] is None


def test_a_text_without_a_word_of_weight_is_answered(corpus: LivePool):
    for method in METHODS:
        assert len(corpus.select("💡", k=3, method=method)["demonstrations"]) == 3


def test_outputs_with_too_many_values_are_no_labels(live: Live):
    pool = live.create("free-text")
    pool.add([{"inputs": f"question {i}", "outputs": f"answer {i}"} for i in range(501)])
    wait_until(lambda: pool.stats()["pending"] == 0, "the index")
    assert pool.stats()["by_label"] == {}
    chosen = pool.select("question 3", k=2)
    assert [one["label"] for one in chosen["demonstrations"]] == [None, None]
