import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kshot.errors import InvalidShape, SegmentCorrupt
from kshot.index.segments import Features, merge, open_all, open_segment, remove, write_segment
from tests.test_index.builders import embed

pytestmark = pytest.mark.usefixtures("without_fsync")
PARTS = ("keys", "vectors", "truncated", "tokens", "offsets", "token_ids")
finite16 = st.floats(width=16, allow_nan=False, allow_infinity=False)
finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def batches(draw, first_key=0, d=2, d_t=3, with_tokens=None):
    n = draw(st.integers(0, 5))
    keys = np.arange(first_key, first_key + n, dtype=np.int64)
    vectors = draw(arrays(np.float32, (n, d), elements=finite32))
    truncated = draw(arrays(np.bool_, n))
    if not (draw(st.booleans()) if with_tokens is None else with_tokens):
        return Features(keys, vectors, truncated)
    lengths = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    t = sum(lengths)
    return Features(
        keys,
        vectors,
        truncated,
        draw(arrays(np.float16, (t, d_t), elements=finite16)),
        np.cumsum([0, *lengths], dtype=np.int64),
        draw(arrays(np.int32, t, elements=st.integers(0, 2**31 - 1))),
    )


def assert_same(found: Features, wanted: Features):
    for part in PARTS:
        have, want = getattr(found, part), getattr(wanted, part)
        if want is None:
            assert have is None
        else:
            assert (have.dtype, have.shape, have.tobytes()) == (want.dtype, want.shape, want.tobytes())


def rows_of(features: Features):
    """Return one tuple per row, with its own tokens."""
    found = []
    for i, key in enumerate(features.keys.tolist()):
        row = [key, features.vectors[i].tobytes(), bool(features.truncated[i])]
        if features.tokens is not None and features.offsets is not None and features.token_ids is not None:
            own = slice(int(features.offsets[i]), int(features.offsets[i + 1]))
            row += [features.tokens[own].tobytes(), features.token_ids[own].tolist()]
        found.append(tuple(row))
    return found


@settings(max_examples=60)
@given(batch=batches())
def test_a_segment_gives_back_the_very_bits_that_were_written(batch):
    with tempfile.TemporaryDirectory() as folder:
        assert_same(write_segment(Path(folder), batch).features, batch)
        (found,), dropped = open_all(Path(folder))
        assert_same(found.features, batch)
        assert dropped == []
        assert found.disk_bytes == sum(file.stat().st_size for file in found.path.glob("*.npy"))


@settings(max_examples=50)
@given(data=st.data(), with_tokens=st.booleans())
def test_a_merge_is_the_kept_rows_one_segment_after_the_other(data, with_tokens):
    batch_list = [
        data.draw(batches(100 * i, with_tokens=with_tokens)) for i in range(data.draw(st.integers(1, 4)))
    ]
    masks = [data.draw(arrays(np.bool_, len(batch))) for batch in batch_list]
    with tempfile.TemporaryDirectory() as folder:
        merged = merge([write_segment(Path(folder), batch) for batch in batch_list], masks).checked()
    assert rows_of(merged) == [
        row
        for batch, mask in zip(batch_list, masks, strict=True)
        for row, kept in zip(rows_of(batch), mask, strict=True)
        if kept
    ]
    assert (merged.tokens is not None) == with_tokens


def test_a_merge_with_a_segment_without_tokens_has_none(tmp_path):
    parts = [write_segment(tmp_path, embed([i], ["a"], with_tokens=i != 2)) for i in (1, 2, 3)]
    merged = merge(parts, [np.ones(1, np.bool_)] * 3).checked()
    assert merged.keys.tolist() == [1, 2, 3]
    assert (merged.tokens, merged.offsets, merged.token_ids) == (None, None, None)


def test_segments_are_opened_in_the_order_of_their_first_keys(tmp_path):
    for key in (30, 4, 1000):
        write_segment(tmp_path, embed([key], ["x"]))
    found, _ = open_all(tmp_path)
    assert [int(one.features.keys[0]) for one in found] == [4, 30, 1000]


def test_opened_arrays_cannot_be_written_to_disk_by_accident(tmp_path):
    features = write_segment(tmp_path, embed([1], ["x y"])).features
    for array in (features.vectors, features.tokens):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.fixture
def pair(tmp_path):
    """Write a good segment and one that a test then damages."""
    write_segment(tmp_path, embed([1, 2], ["a b", "c"]))
    return tmp_path, write_segment(tmp_path, embed([3, 4], ["d e f", "g"])).path


def assert_the_damaged_one_is_dropped(folder, damaged):
    with pytest.raises(SegmentCorrupt, match=damaged.name):
        open_segment(damaged)
    found, dropped = open_all(folder)
    assert [one.features.keys.tolist() for one in found] == [[1, 2]]
    assert dropped == [damaged.name]
    assert not damaged.exists()
    assert open_all(folder)[1] == []


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("place", [0, 9, -1])
def test_a_flipped_bit_in_a_data_file_drops_the_segment(pair, part, place):
    folder, damaged = pair
    file = damaged / f"{part}.npy"
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    file.write_bytes(data)
    assert_the_damaged_one_is_dropped(folder, damaged)


@pytest.mark.parametrize("part", [*PARTS, "manifest"])
@pytest.mark.parametrize("size", [0, 1, -1])
def test_a_truncated_file_drops_the_segment(pair, part, size):
    folder, damaged = pair
    (file,) = damaged.glob(f"{part}.*")
    file.write_bytes(file.read_bytes()[:size])
    assert_the_damaged_one_is_dropped(folder, damaged)


@pytest.mark.parametrize("part", [*PARTS, "manifest"])
def test_a_missing_file_drops_the_segment(pair, part):
    folder, damaged = pair
    (file,) = damaged.glob(f"{part}.*")
    file.unlink()
    assert_the_damaged_one_is_dropped(folder, damaged)


def test_a_flipped_bit_in_the_manifest_is_noticed_or_harmless(tmp_path):
    wanted = embed([3, 4], ["d e f", "g"])
    path = write_segment(tmp_path, wanted).path
    manifest = path / "manifest.json"
    data = manifest.read_bytes()
    noticed = 0
    for place in range(len(data)):
        for bit in (1, 32):
            manifest.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            try:
                found = open_segment(path)
            except SegmentCorrupt:
                noticed += 1
            else:
                assert_same(found.features, wanted)
    assert noticed > len(data)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "null",
        "[]",
        '"x"',
        "{}",
        "[" * 100_000,
        '{"format": 1}',
        '{"format": 2, "rows": 0, "files": {}}',
        '{"format": 1, "rows": 0, "files": {}}',
        '{"format": 1, "rows": 0, "files": []}',
        '{"format": 1, "rows": 0, "files": {"keys": 3}}',
        '{"format": 1, "rows": 0, "files": {"../manifest": {"bytes": 3, "xxh3": ""}}}',
    ],
)
def test_a_foreign_manifest_drops_the_segment(pair, manifest):
    folder, damaged = pair
    (damaged / "manifest.json").write_text(manifest, encoding="utf-8")
    assert_the_damaged_one_is_dropped(folder, damaged)


def test_the_manifest_of_another_segment_drops_the_segment(pair):
    folder, damaged = pair
    (other,) = (path for path in folder.iterdir() if path != damaged)
    shutil.copy(other / "manifest.json", damaged)
    assert_the_damaged_one_is_dropped(folder, damaged)


@pytest.mark.parametrize("part", ["offsets", "token_ids", "tokens"])
def test_parts_that_do_not_fit_together_drop_the_segment_even_with_a_fitting_manifest(pair, part):
    folder, damaged = pair
    (other,) = (path for path in folder.iterdir() if path != damaged)
    shutil.copy(other / f"{part}.npy", damaged)
    manifest, its = (json.loads((path / "manifest.json").read_text("utf-8")) for path in (damaged, other))
    manifest["files"][part] = its["files"][part]
    (damaged / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert_the_damaged_one_is_dropped(folder, damaged)


def test_all_bytes_are_on_disk_before_the_final_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    events: list[int | str] = []
    rename = Path.rename

    def renamed(path, target):
        wanted = {file.stat().st_ino for file in (path, *path.iterdir())}
        assert wanted <= set(events)
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(Path, "rename", renamed)
    write_segment(tmp_path, embed([1], ["x"]))
    assert events[-2:] == ["rename", tmp_path.stat().st_ino]


def test_an_unfinished_segment_is_removed_without_a_word(tmp_path, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            write_segment(tmp_path, embed([1], ["x"]))
    assert list(tmp_path.iterdir()) != []
    assert open_all(tmp_path) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_a_removal_cut_short_leaves_nothing_that_looks_corrupt(tmp_path, monkeypatch):
    segment = write_segment(tmp_path, embed([1], ["x"]))

    def crash(path):
        (path / "keys.npy").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            remove(segment)
    assert open_all(tmp_path) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_removed_segments_stay_readable_for_those_who_hold_them(tmp_path):
    wanted = embed([1, 2], ["a b", "c"])
    segment = write_segment(tmp_path, wanted)
    remove(segment)
    assert list(tmp_path.iterdir()) == []
    assert_same(segment.features, wanted)


def test_strange_files_are_left_alone(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "tmp-note").write_bytes(b"x")
    assert open_all(tmp_path) == ([], [])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_does_not_exist_holds_no_segments(tmp_path):
    assert open_all(tmp_path / "none") == ([], [])


GOOD: Any = embed([1, 2], ["a b", "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": np.array([1, 1])}, "keys repeat"),
        ({"keys": np.array([1])}, "vectors has shape"),
        ({"keys": np.array([1.0, 2.0])}, "keys has dtype float64"),
        ({"vectors": GOOD.vectors.astype(np.float64)}, "vectors has dtype float64"),
        ({"vectors": GOOD.vectors * np.float32(np.nan)}, "vectors holds nan"),
        ({"tokens": GOOD.tokens * np.float16(np.inf)}, "tokens holds"),
        ({"tokens": GOOD.tokens[:2]}, "tokens has shape"),
        ({"tokens": GOOD.tokens.astype(np.float32)}, "tokens has dtype float32"),
        ({"tokens": None}, "together or not at all"),
        ({"offsets": None}, "together or not at all"),
        ({"offsets": np.array([0, 3])}, "offsets has shape"),
        ({"offsets": np.array([0, 0, 3])}, "at least one token"),
        ({"offsets": np.array([1, 2, 3])}, "at least one token"),
        ({"offsets": np.array([0, 4, 3])}, "at least one token"),
        ({"offsets": np.array([0, 1, 2])}, "do not cut 3 tokens"),
        ({"truncated": np.zeros(3, np.bool_)}, "truncated has shape"),
    ],
)
def test_features_that_disagree_are_refused_before_anything_is_written(tmp_path, change, message):
    good = {part: getattr(GOOD, part) for part in PARTS}
    with pytest.raises(InvalidShape, match=message):
        write_segment(tmp_path, Features(**(good | change)))
    assert list(tmp_path.iterdir()) == []
