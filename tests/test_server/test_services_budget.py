"""Token budgets and the stable core over the real service."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from kshot.formatting import estimated_tokens
from kshot.index.repeats import Repeats
from kshot.selectors import PackingPolicy
from kshot.server.services.assembly import fitted
from kshot.server.services.core import StableCores
from tests.test_server.live import UNSCORED, Live, LivePool, codes, ids, pointers, running, tickets

QUERY = "the invoice number3 was charged twice on my card"
PACKINGS = sorted(PackingPolicy)
UNEVEN = [{**row, "outputs": row["outputs"] + " x" * (i * i % 40)} for i, row in enumerate(tickets(30))]


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer file that counts characters that are no space, and words."""
    vocabulary = {"[UNK]": 0}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def estimated(live: Live) -> LivePool:
    pool = live.create("estimated")
    pool.add(UNEVEN)
    return pool


@pytest.fixture(scope="module")
def exact(live: Live, word_pieces: Path) -> LivePool:
    pool = live.create("exact", tokenizer=str(word_pieces), prompt={"separator": "\n * * * \n"})
    pool.add(UNEVEN)
    return pool


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("method", ["fused", "dpp", "label_balanced"])
def test_the_joined_demonstrations_never_exceed_the_budget(
    packing: str, method: str, estimated: LivePool, exact: LivePool
):
    for budget in (1, 17, 40, 85, 300, 10_000):
        options = {"k": 9, "method": method, "packing": packing, "max_tokens": budget, "stable": {"k": 2}}
        chosen = estimated.select(QUERY, **options)
        texts = [f"Input: {one['inputs']}\nOutput: {one['outputs']}" for one in chosen["demonstrations"]]
        assert estimated_tokens("\n\n".join(texts)) <= budget
        assert chosen["usage"]["tokens"] <= budget
        assert chosen["usage"]["estimated"]

        chosen = exact.select(QUERY, **options)
        texts = [one["rendered"]["text"] for one in chosen["demonstrations"]]
        assert len("\n * * * \n".join(texts).split()) <= budget
        assert chosen["usage"]["tokens"] <= budget
        assert not chosen["usage"]["estimated"]
        assert ("max_tokens" in codes(chosen)) == (len(texts) < 9)
    assert len(texts) == 9


def test_a_budget_that_everything_fits_changes_nothing(exact: LivePool):
    free = exact.select(QUERY, k=6)
    bounded = exact.select(QUERY, k=6, max_tokens=free["usage"]["tokens"])
    assert ids(bounded) == ids(free)
    tight = exact.select(QUERY, k=6, max_tokens=free["usage"]["tokens"] - 1)
    assert len(ids(tight)) < 6


def test_what_did_not_fit_is_explained(exact: LivePool):
    chosen = exact.select(QUERY, k=6, max_tokens=60, explain=True)
    left_out = [one for one in chosen["explain"]["rejected"] if one["reason"].startswith("max_tokens")]
    assert len(left_out) + len(chosen["demonstrations"]) == 6
    assert chosen["warnings"][0]["message"].startswith(f"{len(left_out)} picks")


@dataclass(frozen=True)
class _Pick:
    row: int
    size: int
    score: float

    @property
    def tokens(self) -> int:
        return self.size + 1  # with the separator

    @property
    def turn(self) -> Any:
        return SimpleNamespace(text="x" * self.size)


@given(
    sizes=st.lists(st.integers(1, 30), max_size=8),
    core=st.lists(st.integers(1, 30), max_size=3),
    budget=st.integers(1, 120),
    surcharge=st.integers(0, 9),
    policy=st.sampled_from(PACKINGS),
)
@example(sizes=[5], core=[5], budget=11, surcharge=0, policy="prefix_stop")
def test_a_tokenizer_that_needs_more_for_the_whole_is_obeyed(
    sizes: list[int], core: list[int], budget: int, surcharge: int, policy: Any
):
    class Superadditive:
        def count(self, texts: list[str]) -> Any:
            return np.array([len(text) + surcharge * text.count("|") for text in texts])

    runtime: Any = SimpleNamespace(tokenizer=Superadditive(), templates=SimpleNamespace(separator="|"))
    stable: Any = [_Pick(100 + i, size, 0.0) for i, size in enumerate(core)]
    dynamic: Any = [_Pick(i, size, 1.0 / (i + 1)) for i, size in enumerate(sizes)]

    kept_core, kept, dropped = fitted(runtime, stable, dynamic, policy, budget, lambda picks: [*picks][::-1])

    joined = "|".join(one.turn.text for one in [*kept_core, *kept])
    assert Superadditive().count([joined])[0] <= budget
    assert sum(one.tokens for one in [*kept_core, *kept]) <= budget
    assert kept_core == stable[: len(kept_core)]
    rows = [one.row for one in [*kept_core, *kept, *dropped]]
    assert sorted(rows) == sorted(one.row for one in [*stable, *dynamic])


# --- the stable core ---


def core(selection):
    return [one["id"] for one in selection["demonstrations"] if one["part"] == "stable"]


def test_the_core_is_the_same_for_every_query_and_method(estimated: LivePool):
    seen = set()
    for query in (QUERY, "wifi", "my parcel is late", "💡"):
        for method in UNSCORED:
            chosen = estimated.select(query, k=6, method=method, stable={"k": 3})
            assert [one["part"] for one in chosen["demonstrations"]] == ["stable"] * 3 + ["dynamic"] * 3
            assert len(set(ids(chosen))) == 6
            assert all(one["gain"] == 0 for one in chosen["demonstrations"][:3])
            seen.add((tuple(core(chosen)), chosen["prefix_hash"]))
    assert len(seen) == 1


def test_new_examples_do_not_change_the_core(pool: LivePool):
    pool.add(tickets(20))
    before = pool.select(QUERY, k=5, stable={"k": 3})
    pool.add(tickets(40, start=20))
    pool.delete(ids=[key for key in [f"t{i:05d}" for i in range(20)] if key not in core(before)][:5])
    after = pool.select("another question", k=5, stable={"k": 3})
    assert after["pool_version"] > before["pool_version"]
    assert (core(after), after["prefix_hash"]) == (core(before), before["prefix_hash"])


def test_a_core_without_one_of_its_members_is_chosen_anew(pool: LivePool):
    pool.add(tickets(20))
    before = core(pool.select(QUERY, k=3, stable={"k": 3}))
    pool.delete(ids=before[:1])
    after = core(pool.select(QUERY, k=3, stable={"k": 3}))
    assert len(after) == 3
    assert before[0] not in after
    pool.add([{**tickets(20)[int(after[0][1:])], "inputs": "quite another text"}])
    assert len(core(pool.select(QUERY, k=3, stable={"k": 3}))) == 3


def test_a_member_with_another_answer_stays(pool: LivePool):
    pool.add(tickets(20))
    before = pool.select(QUERY, k=3, stable={"k": 3})
    pool.add([{**tickets(20)[int(core(before)[0][1:])], "outputs": "changed"}])
    after = pool.select(QUERY, k=3, stable={"k": 3})
    assert core(after) == core(before)
    assert after["demonstrations"][0]["outputs"] == "changed"
    assert after["prefix_hash"] != before["prefix_hash"]


def test_a_core_that_was_too_small_grows_with_the_pool(pool: LivePool):
    assert core(pool.select(QUERY, k=3, stable={"k": 3})) == []
    pool.add(tickets(2))
    assert len(core(pool.select(QUERY, k=3, stable={"k": 3}))) == 2
    pool.add(tickets(20))
    assert len(core(pool.select(QUERY, k=3, stable={"k": 3}))) == 3


class _Sized(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.sample.rows)


def test_a_request_on_an_older_snapshot_gets_a_core_of_that():
    def state(n: int) -> tuple[Any, Any]:
        rows = np.arange(n)
        vectors = np.eye(n, dtype=np.float32)
        repeats = Repeats.of(np.arange(n, dtype=np.uint64), np.ones(n, np.bool_))
        snapshot = _Sized(
            dense=SimpleNamespace(vectors=vectors), sample=SimpleNamespace(rows=rows), repeats=repeats
        )
        return snapshot, SimpleNamespace(rows=rows, mask=np.ones(n, bool))

    cores, (old, old_eligible), (new, new_eligible) = StableCores(), state(2), state(3)
    assert cores.rows("", new, new_eligible, 3).tolist() == [0, 1, 2]
    assert cores.rows("", old, old_eligible, 2).tolist() == [0, 1]
    new_eligible.mask[1] = False
    new_eligible.rows = np.array([0, 2])
    assert cores.rows("", new, new_eligible, 2).tolist() == [0, 2]
    assert cores.rows("", old, old_eligible, 2).tolist() == [0, 1]


def test_members_that_a_request_excludes_are_left_out_for_that_request_alone(estimated: LivePool):
    members = core(estimated.select(QUERY, k=6, stable={"k": 3}))
    excluding = estimated.select(QUERY, k=6, stable={"k": 3}, exclude={"ids": [members[1]]})
    assert core(excluding) == [members[0], members[2]]
    assert members[1] not in ids(excluding)
    assert len(ids(excluding)) == 6
    inputs = next(row["inputs"] for row in UNEVEN if row["id"] == members[0])
    same = estimated.select(inputs, k=6, stable={"k": 3}, exclude={"same_content": True})
    assert core(same) == members[1:]
    assert core(estimated.select(QUERY, k=6, stable={"k": 3})) == members


def test_each_filter_has_a_core_of_its_own(estimated: LivePool):
    german = {"field": "metadata.lang", "eq": "de"}
    chosen = estimated.select(QUERY, k=6, stable={"k": 3}, filter=german)
    assert all(one["metadata"]["lang"] == "de" for one in chosen["demonstrations"])
    assert core(chosen) != core(estimated.select(QUERY, k=6, stable={"k": 3}))


def test_the_core_needs_not_be_similar_to_the_query(estimated: LivePool):
    chosen = estimated.select(QUERY, k=4, stable={"k": 2}, min_score=0.99)
    assert [one["part"] for one in chosen["demonstrations"]] == ["stable", "stable"]
    assert not chosen["abstained"]


def test_the_core_represents_the_labels(estimated: LivePool):
    chosen = estimated.select(QUERY, k=5, stable={"k": 5})
    assert len({row["outputs"].split()[0] for row in UNEVEN if row["id"] in core(chosen)}) == 5


def test_the_core_is_cut_first_to_last(estimated: LivePool):
    whole = estimated.select(QUERY, k=4, stable={"k": 4})
    budget = sum(one["tokens"] for one in whole["demonstrations"][:2])
    assert core(estimated.select(QUERY, k=4, stable={"k": 4}, max_tokens=budget)) == core(whole)[:2]


def test_a_core_larger_than_the_set_is_refused(estimated: LivePool):
    problem = estimated.problem("/select", {"inputs": QUERY, "k": 3, "stable": {"k": 4}})
    assert pointers(problem) == ["/stable/k"]
    assert "allowed 1 to k = 3" in problem["detail"]


def test_a_core_changes_its_hash_with_its_text(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(10))
        first = pool.select(QUERY, k=2, stable={"k": 2})
        pool.patch(prompt={"system": "Answer."})
        second = pool.select(QUERY, k=2, stable={"k": 2})
        assert core(first) == core(second)
        assert first["prefix_hash"] != second["prefix_hash"]
        assert json.dumps(second["frame"]) == json.dumps(
            {
                "system": "Answer.",
                "separator": "\n\n",
                "query_input": QUERY,
                "query_text": f"Input: {QUERY}\nOutput:",
            }
        )
