import json

import faiss
import numpy as np
import pytest

from kshot.index import sealing
from kshot.index.dense import HnswIndex
from kshot.index.pool import PoolIndex
from kshot.index.sealing import build_base, load_base, wants_base
from kshot.index.segments import checksum
from kshot.index.store.example_rows import PoolChanges
from tests.test_index.builders import embed, header, no_texts, published, vector_of

pytestmark = pytest.mark.usefixtures("without_fsync")
FILES = ["dense.faiss", "dense.json"]


@pytest.fixture
def pool(tmp_path):
    return published(tmp_path / "segments", map(header, range(1, 41)), with_tokens=False)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def grown(pool, first, last):
    pool.append(embed(range(first, last), [f"text {i}" for i in range(first, last)], with_tokens=False))
    changes = PoolChanges(pool.snapshot.version + 1, [], [header(i) for i in range(first, last)])
    return pool.publish(changes)


def test_a_saved_base_answers_like_the_one_that_was_built(tmp_path, pool):
    built = build_base(tmp_path, pool.snapshot)
    assert names(tmp_path) == FILES
    loaded = load_base(tmp_path, pool.snapshot)
    assert loaded is not None
    assert len(loaded) == len(built) == 40
    for i in range(40):
        query = vector_of(f"text {i}")
        assert loaded.search(query, 7, None).tolist() == built.search(query, 7, None).tolist()


def test_a_base_fits_a_pool_that_has_grown_since(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    snapshot = grown(pool, 41, 50)
    base = load_base(tmp_path, snapshot)
    assert base is not None
    pool.install_base(base)
    assert pool.snapshot.version == snapshot.version
    assert pool.snapshot.dense.kind == "hnsw (40 rows) + exact tail (9 rows)"
    assert snapshot.dense.kind == "exact"
    assert grown(pool, 50, 52).dense.kind == "hnsw (40 rows) + exact tail (11 rows)"


def test_a_base_fits_the_reopened_pool(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    assert load_base(tmp_path, PoolIndex(tmp_path / "segments", None, no_texts).snapshot) is not None


def assert_stale(folder, snapshot):
    assert load_base(folder, snapshot) is None
    # It holds copies of vectors, maybe of erased ones.
    assert names(folder) == []


def test_a_base_over_other_vectors_is_not_loaded_and_deleted(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    other = published(tmp_path / "other", map(header, range(2, 60)), with_tokens=False)
    assert_stale(tmp_path, other.snapshot)


def test_a_base_over_more_rows_than_there_are_is_not_loaded_and_deleted(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    assert_stale(
        tmp_path, published(tmp_path / "other", map(header, range(1, 40)), with_tokens=False).snapshot
    )


def test_a_base_of_a_pool_that_has_no_vectors_any_more_is_deleted(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    assert_stale(tmp_path, published(tmp_path / "other", []).snapshot)


@pytest.mark.parametrize("place", [0, 40, 500, -1])
def test_a_damaged_graph_is_not_loaded(tmp_path, pool, place):
    build_base(tmp_path, pool.snapshot)
    data = bytearray((tmp_path / "dense.faiss").read_bytes())
    data[place] ^= 1
    (tmp_path / "dense.faiss").write_bytes(data)
    assert_stale(tmp_path, pool.snapshot)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", "null", '{"rows": -1}', '{"rows": "x"}', '{"rows": 40}']
)
def test_a_graph_with_a_foreign_manifest_is_not_loaded(tmp_path, pool, manifest):
    build_base(tmp_path, pool.snapshot)
    (tmp_path / "dense.json").write_text(manifest, encoding="utf-8")
    assert_stale(tmp_path, pool.snapshot)


def test_a_graph_that_is_none_is_not_loaded(tmp_path, pool):
    build_base(tmp_path, pool.snapshot)
    (tmp_path / "dense.faiss").write_bytes(b"no graph")
    manifest = json.loads((tmp_path / "dense.json").read_text("utf-8"))
    manifest["graph"] = checksum(tmp_path / "dense.faiss")
    (tmp_path / "dense.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert_stale(tmp_path, pool.snapshot)


def test_a_graph_beside_the_manifest_of_another_is_not_loaded(tmp_path, pool, monkeypatch):
    build_base(tmp_path, pool.snapshot)
    snapshot = grown(pool, 41, 60)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", crash)
        with pytest.raises(KeyboardInterrupt):
            build_base(tmp_path, snapshot)
    assert_stale(tmp_path, snapshot)


def test_a_construction_cut_short_leaves_the_old_base_usable_and_no_rubbish(tmp_path, pool, monkeypatch):
    build_base(tmp_path, pool.snapshot)
    snapshot = grown(pool, 41, 60)

    def crash(_, path):
        with open(path, "wb") as file:  # noqa: PTH123  # as faiss does
            file.write(b"half a graph")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(faiss, "write_index", crash)
        with pytest.raises(KeyboardInterrupt):
            build_base(tmp_path, snapshot)
    assert load_base(tmp_path, snapshot) is not None
    assert names(tmp_path) == FILES


def test_no_base_is_no_base(tmp_path, pool):
    assert load_base(tmp_path, pool.snapshot) is None


def test_a_base_is_wanted_once_the_rows_to_scan_are_many(pool, monkeypatch):
    monkeypatch.setattr(sealing, "EXACT_ROWS", 39)
    assert wants_base(pool.snapshot)
    monkeypatch.setattr(sealing, "EXACT_ROWS", 40)
    assert not wants_base(pool.snapshot)
    monkeypatch.setattr(sealing, "EXACT_ROWS", 5)
    pool.install_base(HnswIndex.build(pool.snapshot.dense.vectors))
    assert not wants_base(pool.snapshot)
    # Beyond a quarter of what the base covers.
    assert not wants_base(grown(pool, 41, 51))
    assert wants_base(grown(pool, 51, 52))


def test_a_pool_without_vectors_wants_no_base(tmp_path, monkeypatch):
    monkeypatch.setattr(sealing, "EXACT_ROWS", -1)
    assert not wants_base(published(tmp_path, []).snapshot)


def test_building_reads_vectors_that_are_read_only(tmp_path, pool):
    assert not pool.snapshot.dense.vectors.flags.writeable
    assert len(build_base(tmp_path, pool.snapshot)) == 40
    assert np.isfinite(pool.snapshot.dense.vectors).all()
