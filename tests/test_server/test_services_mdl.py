"""Selections that the scorer decides: what it is asked, and what wins."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kshot.selectors import organisations
from kshot.server.services.weighing import blanked
from kshot.testing import ToyCompletionServer
from tests.test_server.closed_form import ClosedFormScorer
from tests.test_server.live import Live, LivePool, codes, ids, running
from tests.test_server.live_mdl import (
    LABELS,
    QUERY,
    ROWS,
    URL,
    entropy,
    filled,
    laid_out,
    means,
    named,
    prompt_of,
    ranking,
)


@pytest.fixture
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture
def scoring(tmp_path: Path, scorer: ClosedFormScorer) -> Iterator[Live]:
    with running(tmp_path, scorer=scorer, scorer_url=URL) as made:
        yield made


@pytest.fixture
def pool(scoring: Live) -> LivePool:
    return filled(scoring)


# --- the method ---


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("objective", ["mdl", "local_e"])
def test_the_organisation_of_least_entropy_is_shown_as_it_was_scored(
    pool: LivePool, scorer: ClosedFormScorer, seed: int, objective: str
):
    chosen = pool.select(QUERY, k=4, seed=seed, explain=True, method={"type": "mdl", "objective": objective})
    ways = laid_out(4, seed=seed)
    entropies = [entropy(means(prompt_of(rows))) for rows in ways]
    best = (np.argmin if objective == "mdl" else np.argmax)(entropies)
    assert ids(chosen) == named(ways[best])
    assert (chosen["degraded"], chosen["warnings"], chosen["method"]) == (False, [], "mdl")
    facts = chosen["explain"]["diagnostics"]
    assert facts["entropies"] == pytest.approx(entropies, abs=1e-6)
    assert (facts["organisation"], facts["organisations"], facts["labels"]) == (best, 10, 5)
    asked = {(str(pair.context), str(pair.completion)) for pair in scorer.pairs}  # type: ignore[attr-defined]
    assert asked == {(prompt_of(rows), f" {label}") for rows in ways for label in LABELS}
    assert (facts["scorer_prompts"], len(scorer.pairs)) == (50, 50)
    assert chosen["timing_ms"]["score"] > 0


def test_one_organisation_is_the_plain_top_k_and_asks_nobody(pool: LivePool, scorer: ClosedFormScorer):
    chosen = pool.select(QUERY, k=4, method={"type": "mdl", "organisations": 1})
    assert ids(chosen) == ids(pool.select(QUERY, k=4, method="similarity"))
    assert (scorer.pairs, chosen["degraded"]) == ([], False)


def test_an_order_that_is_asked_for_holds_for_every_organisation(pool: LivePool, scorer: ClosedFormScorer):
    chosen = pool.select(QUERY, k=4, method="mdl", order="nearest_first")
    near = named(ranking())
    ways = [sorted(rows, key=lambda row: near.index(row["id"])) for rows in laid_out(4)]
    best = int(np.argmin([entropy(means(prompt_of(rows))) for rows in ways]))
    assert ids(chosen) == named(ways[best])


def test_calibration_subtracts_what_is_said_to_a_query_without_content(
    pool: LivePool, scorer: ClosedFormScorer
):
    chosen = pool.select(QUERY, k=3, method={"type": "mdl", "calibration": "na"}, explain=True)
    shifted = [
        [
            with_query - without
            for with_query, without in zip(means(prompt_of(rows)), means(blank), strict=True)
        ]
        for rows in laid_out(3)
        for blank in [prompt_of(rows, "N/A")]
    ]
    assert ids(chosen) == named(laid_out(3)[int(np.argmin([entropy(one) for one in shifted]))])
    assert chosen["explain"]["diagnostics"]["scorer_prompts"] == len(scorer.pairs) == 2 * 10 * 5


def test_queries_without_content_keep_their_form():
    assert blanked("where is my parcel", "x") == "x x x x"
    assert blanked("", "x") == "x"
    assert blanked({"subject": "two words", "body": None, "n": 3}, "mask") == {
        "subject": "[MASK]",
        "body": None,
        "n": "[MASK]",
    }
    assert blanked({"a": "two words", "n": 3}, "x") == {"a": "x x", "n": "x"}


def test_the_prompts_are_the_pools_own_and_begin_with_the_stable_core(
    scoring: Live, scorer: ClosedFormScorer
):
    prompt = {
        "demonstration": "Q {{ input }} => {{ output }}.",
        "query": "Q {{ input }}",
        "separator": "|",
        "system": "One of {{ labels | join(',') }}:",
        "output": "<{{ outputs }}>",
    }
    pool = filled(scoring, prompt=prompt)
    chosen = pool.select(QUERY, k=4, method="mdl", stable={"k": 2})
    core = [one["rendered"]["text"] for one in chosen["demonstrations"][:2]]
    begins = f"One of {','.join(LABELS)}:|{core[0]}|{core[1]}|"
    contexts = {str(pair.context) for pair in scorer.pairs}  # type: ignore[attr-defined]
    assert len(contexts) == 10
    assert all(one.startswith(begins) and one.endswith(f"|Q {QUERY}") for one in contexts)
    assert "|".join([begins[:-1], *(one["rendered"]["text"] for one in chosen["demonstrations"][2:])]) in {
        one.removesuffix(f"|Q {QUERY}") for one in contexts
    }
    completions = {str(pair.completion) for pair in scorer.pairs}  # type: ignore[attr-defined]
    assert completions == {f" => <{label}>" for label in LABELS}


def test_labels_are_those_that_filter_and_exclusions_leave(pool: LivePool, scorer: ClosedFormScorer):
    pool.select(QUERY, k=2, method="mdl", filter={"field": "label", "in": ["billing", "login"]})
    completions = {str(pair.completion) for pair in scorer.pairs}  # type: ignore[attr-defined]
    assert completions == {" billing", " login"}


def test_one_label_keeps_the_plain_top_k(pool: LivePool, scorer: ClosedFormScorer):
    only = {"field": "label", "eq": "billing"}
    chosen = pool.select(QUERY, k=3, method="mdl", filter=only)
    assert ids(chosen) == ids(pool.select(QUERY, k=3, method="similarity", filter=only))
    assert (scorer.pairs, chosen["degraded"]) == ([], False)


def test_every_organisation_keeps_to_the_budget_and_what_is_scored_is_shown(
    pool: LivePool, scorer: ClosedFormScorer
):
    chosen = pool.select(QUERY, k=6, method="mdl", max_tokens=90)
    assert chosen["usage"]["tokens"] <= 90
    by_id = {row["id"]: row for row in ROWS}
    shown = prompt_of([by_id[one] for one in ids(chosen)])
    assert shown in {str(pair.context) for pair in scorer.pairs}  # type: ignore[attr-defined]


def test_near_copies_are_in_no_organisation(pool: LivePool, scorer: ClosedFormScorer):
    wanted = pool.select(QUERY, k=30, method="similarity", distinct={"similarity": 0.8})
    scorer.pairs.clear()
    pool.select(QUERY, k=4, method="mdl", distinct={"similarity": 0.8})
    allowed = {row["inputs"] for row in ROWS if row["id"] in ids(wanted)}
    shown = {
        line.removeprefix("Input: ")
        for pair in scorer.pairs
        for line in str(pair.context).splitlines()  # type: ignore[attr-defined]
        if line.startswith("Input: ")
    }
    assert shown <= allowed | {QUERY}


def test_a_pool_with_fewer_examples_than_wanted_and_an_empty_one(scoring: Live, scorer: ClosedFormScorer):
    small = scoring.create("small")
    assert codes(small.select(QUERY, method="mdl")) == ["no_eligible"]
    small.add(ROWS[:3])
    chosen = small.select(QUERY, k=8, method="mdl", explain=True)
    assert len(ids(chosen)) == 3
    assert "fewer_than_k" in codes(chosen)
    # All draws are permutations of the three.
    assert {len(str(pair.context)) for pair in scorer.pairs} == {len(prompt_of(ROWS[:3]))}  # type: ignore[attr-defined]
    assert chosen["explain"]["diagnostics"]["organisations"] <= 6


def test_parameters_of_the_pool_hold_and_what_ran_is_recorded(scoring: Live, scorer: ClosedFormScorer):
    pool = filled(scoring, select={"method": "mdl", "k": 2, "params": {"mdl": {"organisations": 3}}})
    chosen = pool.select(QUERY, durable=True)
    assert len({str(pair.context) for pair in scorer.pairs}) == 3  # type: ignore[attr-defined]
    stored = scoring.http.get(f"/v1/selections/{chosen['selection_id']}").json()
    assert stored["method"] == "mdl"
    assert stored["request"]["params"] == {
        "candidates": 30,
        "organisations": 3,
        "objective": "mdl",
        "calibration": "none",
    }
    assert [one["id"] for one in stored["demonstrations"]] == ids(chosen)


def test_a_batch_fails_item_by_item(pool: LivePool):
    reply = pool.request(
        "POST",
        "/select:batch",
        {"queries": [{"inputs": QUERY, "method": "mdl"}, {"vector": [1.0], "method": "mdl"}]},
    ).json()
    assert reply["results"][0]["selection"]["method"] == "mdl"
    assert reply["results"][1]["error"]["status"] in {409, 422}


# --- the order ---


def test_the_best_of_several_orders_of_any_methods_set(pool: LivePool, scorer: ClosedFormScorer):
    plain = pool.select(QUERY, k=4, method="similarity")
    chosen = pool.select(QUERY, k=4, method="similarity", order="mdl", explain=True)
    assert sorted(ids(chosen)) == sorted(ids(plain))
    by_id = {row["id"]: row for row in ROWS}
    near = [by_id[one] for one in ids(plain)][::-1]
    drawn = organisations(4, 4, 10, np.random.Generator(np.random.PCG64(0))).tolist()[1:]
    ways = [near[::-1], *([near[place] for place in one] for one in drawn)]
    entropies = [entropy(means(prompt_of(rows))) for rows in ways]
    assert ids(chosen) == named(ways[int(np.argmin(entropies))])
    assert chosen["explain"]["diagnostics"]["entropies"] == pytest.approx(entropies, abs=1e-6)
    assert {tuple(ids(chosen))} <= set(itertools.permutations(ids(plain)))


def test_the_order_is_part_of_the_methods_organisations_anyway(pool: LivePool):
    assert ids(pool.select(QUERY, k=4, method="mdl", order="mdl")) == ids(
        pool.select(QUERY, k=4, method="mdl")
    )


# --- over the wire of a completion server ---


def test_the_whole_way_to_a_completion_server(tmp_path: Path):
    toy = ToyCompletionServer(max_model_tokens=4096)
    rows = [
        {"id": f"r{i}", "inputs": f"is {word} the {i}", "outputs": ("yes", "no")[i % 2]}
        for i, word in enumerate(["New", "York", "banana", "Paris", "ring", "seat"])
    ]
    with toy.running() as url, running(tmp_path, scorer_url=url) as live:
        pool = live.create()
        pool.add(rows)
        chosen = pool.select("is Paris", k=3, method={"type": "mdl", "organisations": 6}, explain=True)
    assert not chosen["degraded"]
    by_id = {row["id"]: row for row in rows}
    shown = prompt_of([by_id[one] for one in ids(chosen)], "is Paris")
    context = toy.tokenizer.encode(shown)
    nats = [
        toy.model.sum_nats(context, toy.tokenizer.encode(f" {label}", add_special_tokens=False))
        for label in ("yes", "no")
    ]
    facts = chosen["explain"]["diagnostics"]
    # Both labels are one token each: one prompt for each organisation, whatever their number.
    asked = [
        prompt
        for body in toy.ledger.bodies
        for prompt in (body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]])
        if toy.tokenizer.decode(prompt).endswith("Input: is Paris\nOutput:")
    ]
    assert len(asked) == len({tuple(prompt) for prompt in asked}) == facts["organisations"] == 6
    assert facts["entropies"][facts["organisation"]] == pytest.approx(entropy(nats), abs=1e-4)
    assert min(facts["entropies"]) == facts["entropies"][facts["organisation"]]
