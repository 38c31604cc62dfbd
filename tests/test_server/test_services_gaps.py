"""Coverage gaps over the real service: noticed, counted, listed, and gone with their selections."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Exclusions
from kshot.index.store import Store
from kshot.records import Selection
from kshot.server.services.gaps import best_similarity
from tests.test_index.builders import header, published
from tests.test_server.live import (
    UNSCORED,
    Live,
    LivePool,
    codes,
    ids,
    pointers,
    running,
    the_problem,
    tickets,
)

NEAR = "my invoice was charged twice on my card"
FAR = "zyxwv utsrq"
SECRET = "Irene Adler zyxwv"
RIGHT, UP, SLOPE = [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]


@pytest.fixture
def filled(pool: LivePool) -> LivePool:
    pool.add(tickets(20))
    return pool


@pytest.fixture
def plane(live: Live, pool: LivePool) -> LivePool:
    """Three examples in a plane, whose cosines can be told by hand; only the last is German."""
    own = live.create(f"plane-{pool.name}", embedder={"type": "external", "dimension": 2})
    own.add(
        [
            {"id": "right", "inputs": "a", "outputs": "1", "vector": RIGHT, "metadata": {"lang": "en"}},
            {"id": "slope", "inputs": "b", "outputs": "2", "vector": SLOPE, "metadata": {"lang": "en"}},
            {"id": "left", "inputs": "c", "outputs": "3", "vector": [-1.0, 0.0], "metadata": {"lang": "de"}},
        ]
    )
    return own


def recorded(live: Live, chosen: Any) -> float | None:
    stored = live.http.get(f"/v1/selections/{chosen['selection_id']}").raise_for_status().json()
    best: float | None = stored["best_similarity"]
    return best


def gaps(pool: LivePool, **params: Any) -> Any:
    return pool.request("GET", "/gaps", params=params).raise_for_status().json()


def counted(live: Live, pool: LivePool) -> float:
    prefix = f'kshot_coverage_gaps_total{{pool="{pool.name}"}} '
    for line in live.http.get("/metrics").text.splitlines():
        if line.startswith(prefix):
            return float(line.removeprefix(prefix))
    return 0.0


@pytest.mark.parametrize("method", ["similarity", "random", "mmr", "label_balanced", "bm25"])
def test_the_best_similarity_is_that_of_the_nearest_example(method: str, live: Live, plane: LivePool):
    for k in (1, 3):
        chosen = plane.select("a", vector=UP, method=method, k=k)
        assert recorded(live, chosen) == pytest.approx(0.6, abs=1e-6)


def test_where_what_is_at_hand_would_be_a_gap_the_index_is_asked(tmp_path: Path):
    snapshot = published(tmp_path, [header(seq) for seq in range(1, 9)]).snapshot
    allowed = snapshot.eligible(None, Exclusions(ids=["e8"]))
    one_of_them = QueryFeatures(snapshot.dense.vectors[3], None, None)
    assert best_similarity(snapshot, one_of_them, allowed, [0.2, 0.3], 0.35) == pytest.approx(1.0)
    assert best_similarity(snapshot, one_of_them, allowed, [0.2, 0.35], 0.35) == 0.35
    left_out = QueryFeatures(snapshot.dense.vectors[7], None, None)
    assert best_similarity(snapshot, left_out, allowed, [], 0.35) == pytest.approx(
        (snapshot.dense.vectors[:7] @ snapshot.dense.vectors[7]).max()
    )


@pytest.mark.parametrize("method", UNSCORED)
def test_every_method_notices_a_gap_and_no_other(method: str, filled: LivePool):
    assert "coverage_gap" in codes(filled.select(FAR, k=2, method=method))
    assert "coverage_gap" not in codes(filled.select(NEAR, k=2, method=method))


def test_only_what_may_be_chosen_counts(live: Live, plane: LivePool):
    german = {"field": "metadata.lang", "eq": "de"}
    filtered = plane.select("a", vector=SLOPE, method="similarity", filter=german)
    assert recorded(live, filtered) == pytest.approx(-0.8, abs=1e-6)
    excluded = plane.select("a", vector=SLOPE, method="similarity", exclude={"ids": ["slope"]})
    assert recorded(live, excluded) == pytest.approx(0.8, abs=1e-6)


def test_what_stays_below_the_least_similarity_counts_still(live: Live, plane: LivePool):
    chosen = plane.select("a", vector=[-0.6, 0.8], method="similarity", min_score=0.9)
    assert (chosen["demonstrations"], chosen["abstained"]) == ([], True)
    assert recorded(live, chosen) == pytest.approx(0.6, abs=1e-6)
    assert codes(chosen) == ["fewer_than_k"]
    gap = plane.select("a", vector=[0.0, -1.0], method="similarity", min_score=0.9)
    assert recorded(live, gap) == pytest.approx(0.0, abs=1e-6)
    assert codes(gap) == ["fewer_than_k", "coverage_gap"]


def test_the_stable_part_counts_too(live: Live, plane: LivePool):
    chosen = plane.select("a", vector=RIGHT, method="similarity", k=3, stable={"k": 3})
    assert recorded(live, chosen) == pytest.approx(1.0, abs=1e-6)


def test_a_sticky_set_is_judged_by_the_query_itself(live: Live, plane: LivePool):
    chosen = plane.select("a", vector=[0.6, -0.8], method="similarity", k=3, sticky={"clusters": 1})
    assert recorded(live, chosen) == pytest.approx(0.6, abs=1e-6)


def test_without_vectors_or_eligible_examples_nothing_is_said(live: Live, plane: LivePool):
    by_words = plane.select("a", method="bm25")
    nothing = plane.select("a", vector=UP, filter={"field": "metadata.lang", "eq": "fr"}, method="similarity")
    for chosen in (by_words, nothing):
        assert recorded(live, chosen) is None
        assert "coverage_gap" not in codes(chosen)


def test_the_notice_names_both_similarities_and_no_text(plane: LivePool):
    plane.patch(select={"gap_below": 0.7})
    chosen = plane.select(SECRET, vector=UP, method="similarity", k=3)
    assert codes(chosen) == ["coverage_gap"]
    message = chosen["warnings"][0]["message"]
    assert "0.600" in message
    assert "gap_below = 0.7" in message
    assert "Adler" not in message
    plane.patch(select={"gap_below": 0.6 - 1e-6})
    assert codes(plane.select("a", vector=UP, method="similarity", k=3)) == []
    plane.patch(select={"gap_below": -1})
    assert codes(plane.select("a", vector=[0.0, -1.0], method="similarity", k=3)) == []


def test_gaps_are_listed_the_worst_first_and_equal_queries_counted(live: Live, plane: LivePool):
    plane.patch(select={"gap_below": 0.9, "method": "similarity"})
    for text, vector in (("up", UP), ("near", SLOPE), ("down", [0.0, -1.0]), ("up", UP)):
        plane.select(text, vector=vector, durable=True)
    found = gaps(plane)
    assert [(gap["query"], gap["count"]) for gap in found["data"]] == [("down", 1), ("up", 2)]
    similarities = [gap["best_similarity"] for gap in found["data"]]
    assert similarities == pytest.approx([0.0, 0.6], abs=1e-6)
    assert (found["below"], found["next_cursor"]) == (0.9, None)
    first = live.http.get(f"/v1/selections/{found['data'][0]['selection_id']}").json()
    assert (first["query"], first["pool"]) == ("down", plane.name)
    stats = plane.stats()
    assert (stats["selections"], stats["gaps"]) == (4, 3)
    assert counted(live, plane) == 3.0


def test_the_threshold_of_a_listing_may_be_another(plane: LivePool):
    plane.select("up", vector=UP, method="similarity", durable=True)
    assert gaps(plane)["data"] == []
    assert [gap["query"] for gap in gaps(plane, below=0.7)["data"]] == ["up"]
    assert gaps(plane, below=0.5)["data"] == []
    assert plane.stats()["gaps"] == 0


def test_pages_of_gaps_put_together_are_the_whole_list(plane: LivePool):
    angles = [(f"q{i}", [i / 10, (1 - i**2 / 100) ** 0.5]) for i in (-5, 0, 3)]
    for text, vector in [*angles, ("twin", UP)]:
        plane.select(text, vector=vector, method="similarity", durable=True)
    whole = [gap["query"] for gap in gaps(plane, below=1.0)["data"]]
    assert len(whole) == 4
    assert (whole[0], whole[-1]) == ("q-5", "q3")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = gaps(plane, below=1.0, limit=1, **cursor)
        found += [gap["query"] for gap in page["data"]]
        if page["next_cursor"] is None:
            break
        assert not any(text in page["next_cursor"] for text, _ in angles)
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole


@pytest.mark.parametrize("cursor", ["", "x", "0.5", ":a", "nan:a", "inf:a", "0.5:"])
def test_a_cursor_of_another_place_is_refused(cursor: str, plane: LivePool):
    problem = the_problem(plane.request("GET", "/gaps", params={"cursor": cursor}))
    assert pointers(problem) == ["/cursor"]


def test_a_query_that_is_not_kept_is_a_gap_without_text(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(store_queries="none")
        pool.add(tickets(5))
        for _ in range(2):
            pool.select(SECRET, durable=True)
        found = gaps(pool)["data"]
        assert [(gap["query"], gap["count"]) for gap in found] == [(None, 1), (None, 1)]
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"Adler" in path.read_bytes() for path in files)
        assert "Adler" not in live.http.get("/metrics").text


def test_queries_of_fields_are_listed_as_they_came(filled: LivePool):
    query = {"text": FAR, "n": 1}
    for _ in range(2):
        filled.select(query, durable=True)
    (gap,) = gaps(filled)["data"]
    assert (gap["query"], gap["count"]) == (query, 2)


def test_every_select_of_a_batch_and_every_render_counts(live: Live, filled: LivePool):
    body = {"queries": [{"inputs": FAR}, {"inputs": NEAR}, {"inputs": FAR, "durable": True}]}
    filled.request("POST", "/select:batch", body).raise_for_status()
    filled.request("POST", "/render", {"inputs": FAR, "durable": True}).raise_for_status()
    assert counted(live, filled) == 3.0
    assert gaps(filled)["data"][0]["count"] == 3


def test_a_plain_search_is_no_selection(live: Live, filled: LivePool):
    filled.request("POST", "/search", {"inputs": FAR}).raise_for_status()
    assert (filled.stats()["selections"], counted(live, filled)) == (0, 0.0)


def test_what_is_older_than_its_retention_is_no_gap(live: Live, plane: LivePool):
    plane.patch(retention_days=3)
    store = live.services.store
    pool_id = store.get_pool(plane.name).id
    now = datetime.now(UTC)
    for days in (1, 2.9, 3.1):
        selection = Selection(
            id=f"{plane.name}-{days}",
            pool_id=pool_id,
            pool_version=1,
            created_at=now - timedelta(days=days),
            method="similarity",
            request={},
            demonstrations=[],
            query="old",
            best_similarity=0.1,
        )
        store.add_selections([selection])
    assert [gap["count"] for gap in gaps(plane)["data"]] == [2]
    assert (plane.stats()["selections"], plane.stats()["gaps"]) == (2, 2)
    plane.patch(retention_days=2)
    assert [gap["count"] for gap in gaps(plane)["data"]] == [1]


def test_gaps_outlive_the_process_and_go_with_their_pool(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(5))
        pool.select(FAR)
    with running(tmp_path) as live:
        assert [gap["query"] for gap in gaps(live.pool())["data"]] == [FAR]
        live.pool().request("DELETE").raise_for_status()
        assert the_problem(live.pool().request("GET", "/gaps"), 404)["code"] == "pool_not_found"
        live.create()
        assert gaps(live.pool())["data"] == []
    with Store(f"sqlite:///{tmp_path}/store.sqlite") as store:
        assert store.list_gaps(1, below=1.0, since=datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_an_example_that_fills_the_gap_ends_it(filled: LivePool):
    assert codes(filled.select(FAR, k=1)) == ["coverage_gap"]
    filled.add([{"id": "new", "inputs": FAR, "outputs": "other"}])
    chosen = filled.select(FAR, k=1)
    assert ids(chosen) == ["new"]
    assert "coverage_gap" not in codes(chosen)


@pytest.mark.parametrize("gap_below", [1.5, -2, "low", None])
def test_a_threshold_is_a_cosine(gap_below: Any, plane: LivePool):
    response = plane.request("PATCH", "", {"settings": {"select": {"gap_below": gap_below}}})
    assert pointers(the_problem(response)) == ["/settings/select/gap_below"]
