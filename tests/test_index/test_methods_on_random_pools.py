"""Every registered method on pools drawn at random: through filters and shortlists to picks."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kshot.index import candidates as candidates_module
from kshot.index.candidates import QueryFeatures, gather
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.index.store.example_rows import PoolChanges
from kshot.schemas.filters import Filter
from kshot.selectors import SELECTORS
from tests.test_index.builders import embed, header, ids_of, published

pytestmark = pytest.mark.usefixtures("without_fsync")
ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
WORDS = [f"w{i}" for i in range(12)]
LABELS = ("a", "b", "c", None)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in SELECTORS.names()},
    **{f"{name} fused": (name, {"relevance": "fused", "bm25": 0.5}) for name in ("mmr", "dpp")},
    "label_balanced fused": ("label_balanced", {"relevance": "fused"}),
    "label_balanced in proportion": ("label_balanced", {"quotas": "proportional"}),
    "set_bsr own": ("set_bsr", {"add_cand_score": 2.0}),
    "set_bsr fused": ("set_bsr", {"add_cand_score": 2.0, "relevance": "fused"}),
    "set_bsr idf": ("set_bsr", {"idf": True}),
    "fused of three": ("fused", {"bm25": 1.0, "idf": True}),
    "structural of words": ("structural", {"max_words": 1}),
}
#: Words tie often, and ties go by row; lots are drawn by row; these features number word pieces by row.
BY_ROW = {
    *("random", "bm25", "hybrid", "structural", "structural of words", "set_bm25"),
    *("set_bsr idf", "fused of three"),
}
#: Levels depend on how many are wanted.
NOT_NESTED = {"cds"}

every_method = pytest.mark.parametrize("name", VARIANTS)
pools = st.integers(0, 10_000)
some = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["whole pools", "shortlists"])
def size(request, monkeypatch):
    """Let pools be small, or let a handful of rows be many."""
    if request.param == "shortlists":
        monkeypatch.setattr(candidates_module, "SMALL_POOL_ROWS", 2)
        monkeypatch.setattr(candidates_module, "shortlist_depth", lambda k: k + 2)
    return request.param


class Pool:
    """A pool of up to 40 examples, some equal, some without a label, some retired or deleted."""

    def __init__(self, seed: int, order: Any = None) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 41))
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 7))) for _ in range(n)]
        if seed % 3 == 0:
            texts = [texts[0]] * n
        elif seed % 3 == 1:
            # No word is in two of them, so that not even tokens tie.
            texts = [
                " ".join(f"{word}.{i}.{j}" for j, word in enumerate(text.split()))
                for i, text in enumerate(texts)
            ]
        self.is_without_ties = seed % 3 == 1
        facts = [
            {
                "outputs": LABELS[int(rng.integers(4))] or "x" * 300,
                "metadata": {"n": i, "hard": float(rng.random())},
                "group": f"g{int(rng.integers(5))}",
                "split": ("train", "test")[int(rng.integers(2))],
            }
            for i in range(n)
        ]
        dead = {i for i in range(n) if rng.random() < 0.1}
        order = np.arange(n) if order is None else np.random.default_rng(order).permutation(n)
        headers = [
            header(place + 1, f"e{i}", inputs=texts[i], **facts[i]) for place, i in enumerate(order.tolist())
        ]
        with TemporaryDirectory() as folder:
            index = published(
                Path(folder), headers, [texts[i] for i in order.tolist()], label_field="outputs"
            )
            gone = [place + 1 for place, i in enumerate(order.tolist()) if i in dead]
            self.snapshot: Snapshot = index.publish(PoolChanges(2, gone, []))
        self.query = query_of(" ".join(rng.choice([*WORDS, "unheard"], rng.integers(1, 5))))

    def eligible(self, seed: int) -> Eligible:
        expressions = (
            None,
            {"field": "metadata.n", "gt": 3},
            {"any": [{"field": "label", "eq": "a"}, {"field": "split", "eq": "test"}]},
            {"not": {"field": "group", "in": ["g1", "g2"]}},
            {"field": "split", "eq": "nowhere"},
        )
        chosen = expressions[seed % len(expressions)]
        excluded = Exclusions(ids=["e0", "e5"] if seed % 2 else (), groups=["g0"] if seed % 7 == 0 else ())
        return self.snapshot.eligible(None if chosen is None else ADAPTER.validate_python(chosen), excluded)

    def choose(self, name: str, k: int, eligible: Eligible, *, exact: bool = False) -> list[str]:
        """Return the ids of the picks, in pick order, after checking what every method promises."""
        method, parameters = VARIANTS[name]
        cls: Any = SELECTORS.get(method)
        selector = cls(**parameters)
        found = gather(self.snapshot, self.query, eligible, selector, k, "metadata.hard", exact=exact)
        assert set(found.rows.tolist()) <= set(eligible.rows.tolist())
        picks = selector.select(found, k, np.random.default_rng(3))
        rows = found.rows[picks.indices]
        assert len(set(rows.tolist())) == len(rows) == min(k, len(eligible.rows))
        assert np.isfinite(picks.gains).all()
        assert np.isfinite(picks.scores).all()
        assert eligible.mask[rows].all()
        return ids_of(self.snapshot, rows)


def query_of(text: str) -> QueryFeatures:
    features = embed([0], [text])
    assert features.tokens is not None
    return QueryFeatures(
        features.vectors[0], features.tokens.astype(np.float32), text, token_ids=features.token_ids
    )


def matches(fields: Mapping[str, Any], seed: int) -> bool:
    """Say by reading whether an example of these fields passes `Pool.eligible`."""
    passes = (
        True,
        fields["metadata.n"] > 3,
        fields.get("label") == "a" or fields["split"] == "test",
        fields["group"] not in {"g1", "g2"},
        False,
    )[seed % 5]
    left_out = (seed % 2 and fields["id"] in {"e0", "e5"}) or (seed % 7 == 0 and fields["group"] == "g0")
    return passes and not left_out


@every_method
@some
@given(seed=pools, k=st.integers(1, 12))
def test_k_different_ones_of_what_may_be_chosen_and_the_same_each_time(name, size, seed, k):
    pool = Pool(seed)
    eligible = pool.eligible(seed)
    columns = pool.snapshot.field_to_column
    for row in range(len(pool.snapshot)):
        fields = {
            field: column.values[column.codes[row]]
            for field, column in columns.items()
            if column.codes[row] >= 0
        }
        assert (bool(pool.snapshot.live[row]) and matches(fields, seed)) == eligible.mask[row]
    if not len(eligible.rows):
        return
    chosen = pool.choose(name, k, eligible)
    assert pool.choose(name, k, eligible) == chosen
    exact = pool.choose(name, k, eligible, exact=True)
    if not pool.is_without_ties:
        # Cosines of equal rows may differ in the last digit, by how many are computed at once.
        return
    assert size == "shortlists" or exact == chosen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates_module, "SMALL_POOL_ROWS", 10_000)
        assert pool.choose(name, k, eligible) == exact


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in BY_ROW])
@some
@given(seed=pools.map(lambda seed: 3 * seed + 1), k=st.integers(1, 12), order=st.integers(0, 99))
def test_examples_ingested_in_another_order_give_the_same_picks(name, seed, k, order):
    pool, moved = Pool(seed), Pool(seed, order)
    assert pool.is_without_ties
    eligible = pool.eligible(seed)
    if len(eligible.rows):
        assert moved.choose(name, k, moved.eligible(seed)) == pool.choose(name, k, eligible)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in {*NOT_NESTED, "random"}])
@some
@given(seed=pools)
def test_more_picks_begin_with_those_of_fewer(name, seed):
    pool = Pool(seed)
    eligible = pool.eligible(1)
    if len(eligible.rows):
        longest = pool.choose(name, 12, eligible)
        for k in range(1, len(longest)):
            assert pool.choose(name, k, eligible) == longest[:k]
