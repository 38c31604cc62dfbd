import os
import threading
import time

import pytest

from kshot.clients.embedders.minilm import open_minilm
from kshot.clients.embedders.model_files import (
    GRAPH,
    TOKENIZER,
    ModelFacts,
    cache_folder,
    find_model,
    find_or_export,
    model_digest,
    write_export,
)
from kshot.clients.embedders.sentence_transformer import open_model
from kshot.errors import InvalidInput, InvalidParameter

FACTS = ModelFacts(dimension=2, token_dimension=3, layers=4, max_tokens=5, pad_id=6)
DIGEST = "0123456789abcdef" * 4


class Exporter:
    """Fills a folder like a real export; counts how often."""

    def __init__(self):
        self.runs = 0

    def __call__(self, folder):
        self.runs += 1
        (folder / GRAPH).write_bytes(b"graph")
        (folder / TOKENIZER).write_bytes(b"tokenizer")
        write_export(folder, FACTS, {})


@pytest.fixture
def exporter():
    return Exporter()


def entries(cache):
    return sorted(path.name for path in (cache / "embedders").iterdir())


def test_the_first_use_exports_and_the_next_ones_read(tmp_path, exporter):
    first = find_or_export(DIGEST, exporter, cache=tmp_path)
    second = find_or_export(DIGEST, exporter, cache=tmp_path)
    assert first == second
    assert first.facts == FACTS
    assert (first.folder / GRAPH).read_bytes() == b"graph"
    assert exporter.runs == 1
    assert len(entries(tmp_path)) == 1


def test_another_model_has_another_entry(tmp_path, exporter):
    find_or_export(DIGEST, exporter, cache=tmp_path)
    find_or_export("f" * 64, exporter, cache=tmp_path)
    assert exporter.runs == 2
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER, "export.json"])
@pytest.mark.parametrize("damage", [b"", b"graph with a flipped bit", None])
def test_a_damaged_entry_is_exported_again(tmp_path, exporter, name, damage):
    file = find_or_export(DIGEST, exporter, cache=tmp_path).folder / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    again = find_or_export(DIGEST, exporter, cache=tmp_path)
    assert exporter.runs == 2
    assert (again.folder / GRAPH).read_bytes() == b"graph"
    assert len(entries(tmp_path)) == 1


def test_racing_exports_all_get_the_entry_of_the_first(tmp_path):
    together = threading.Barrier(4)
    exporter = Exporter()

    def export(folder):
        together.wait(timeout=30)  # nobody finishes before everybody has started
        exporter(folder)

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(find_or_export(DIGEST, export, cache=tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert exporter.runs == 4
    assert len(entries(tmp_path)) == 1


def test_a_failed_export_leaves_nothing_behind(tmp_path):
    def fail(folder):
        (folder / GRAPH).write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        find_or_export(DIGEST, fail, cache=tmp_path)
    assert entries(tmp_path) == []


def test_an_export_that_was_not_sealed_is_refused(tmp_path):
    with pytest.raises(OSError, match="cannot be read back"):
        find_or_export(DIGEST, lambda _: None, cache=tmp_path)


def test_only_old_leftovers_of_killed_processes_are_removed(tmp_path, exporter):
    old, young = tmp_path / "embedders" / "tmp-old", tmp_path / "embedders" / "tmp-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / GRAPH).write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    find_or_export(DIGEST, exporter, cache=tmp_path)
    assert not old.exists()
    assert young.exists()


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KSHOT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


@pytest.mark.skipif(os.name != "posix", reason="XDG folders")
def test_the_cache_is_the_users_by_default(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("KSHOT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kshot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kshot"


def model_folder(root):
    (root / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "vocab.txt", "1_Pooling/config.json"):
        (root / name).write_text(name)
    return root


def test_the_digest_depends_on_what_the_model_computes_only(tmp_path):
    folder = model_folder(tmp_path / "model")
    digest = model_digest(folder)
    (folder / "README.md").write_text("words")
    (folder / "pytorch_model.bin").write_text("the same weights again")
    assert model_digest(folder) == digest
    assert model_digest(model_folder(tmp_path / "elsewhere")) == digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.txt", "1_Pooling/config.json"])
def test_the_digest_changes_with_every_file_that_matters(tmp_path, name):
    folder = model_folder(tmp_path)
    before = model_digest(folder)
    (folder / name).write_text("changed")
    changed = model_digest(folder)
    (folder / name).unlink()
    assert len({before, changed, model_digest(folder)}) == 3


def test_old_style_weights_count_where_there_are_no_others(tmp_path):
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    before = model_digest(folder)
    (folder / "pytorch_model.bin").write_text("weights")
    assert model_digest(folder) != before


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InvalidParameter, match="holds no model"):
        open_model(str(tmp_path), cache=tmp_path)


def test_a_folder_is_found_as_it_is(tmp_path):
    assert find_model(str(tmp_path)) == tmp_path


def test_a_name_that_no_file_can_have_is_refused():
    for name in ("x" * 300 + "/", "a\0b"):
        with pytest.raises(InvalidParameter, match="neither an existing folder nor a name"):
            find_model(name)


def test_fewer_than_one_thread_is_refused(tmp_path):
    with pytest.raises(InvalidParameter, match="threads is 0, allowed >= 1"):
        open_model(str(tmp_path), threads=0)


@pytest.mark.parametrize("weights", [None, b"", b"other weights"])
def test_weights_other_than_the_published_ones_are_refused(tmp_path, weights):
    if weights is not None:
        (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(InvalidInput, match=r"has SHA-256 .*, wanted 53aa51172d14"):
        open_minilm(folder=tmp_path, cache=tmp_path)
    assert not (tmp_path / "embedders").exists()
