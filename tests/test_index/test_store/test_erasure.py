import pytest

from kshot.errors import ExampleNotFound, InvalidInput
from kshot.records import NewExample
from tests.test_index.test_store.cases import write

SECRET = "Sherlock-Holmes-lives-in-221B"


def a_secret(example_id, **changes):
    values = {
        "inputs": {"text": SECRET},
        "outputs": SECRET,
        "metadata": {"who": SECRET},
        "split": SECRET,
        "subject_id": SECRET,
        "group": SECRET,
        "vector": SECRET.encode(),
    }
    return NewExample(id=example_id, **values | changes)


def test_deleted_examples_are_gone_in_every_version(store, pool):
    first = write(store, pool.id, a_secret("a"), a_secret("b")).seqs
    second = write(store, pool.id, a_secret("a", outputs="2"), NewExample(id="c", inputs="x")).seqs

    assert store.delete_examples(pool.id, ids=["a", "unknown", "c", "a"]) == ["a", "c"]

    assert store.get_pool("tickets").version == 3
    assert [e.id for e in store.iterate_live(pool.id)] == ["b"]
    assert [e.id for e in store.get_examples_by_seq(pool.id, first + second)] == ["b"]
    assert [h.id for h in store.iterate_headers(pool.id, at_version=1)] == ["b"]
    with pytest.raises(ExampleNotFound):
        store.get_example(pool.id, "a")


def test_a_deletion_is_in_the_change_log(store, pool):
    seqs = write(store, pool.id, a_secret("a"), a_secret("b")).seqs
    store.delete_examples(pool.id, ids=["b"])
    assert store.read_changes(pool.id, after_version=1) == (2, [seqs[1]], [])


def test_deleting_nothing_is_no_new_version(store, pool):
    write(store, pool.id, a_secret("a"))
    assert store.delete_examples(pool.id, ids=["unknown"]) == []
    assert store.delete_examples(pool.id, ids=[]) == []
    assert store.delete_examples(pool.id, subject_id="nobody") == []
    assert store.get_pool("tickets").version == 1


def test_a_deleted_id_can_be_used_again(store, pool):
    old = write(store, pool.id, a_secret("a")).seqs[0]
    store.delete_examples(pool.id, ids=["a"])

    result = write(store, pool.id, a_secret("a"))
    assert result.outcomes == ["created"]
    stored = store.get_example(pool.id, "a")
    assert stored.feature_seq == stored.seq > old, "erased vectors are not taken up again"
    assert store.delete_examples(pool.id, ids=["a"]) == ["a"]


def test_a_subject_is_deleted_with_all_its_examples(store, pool):
    rows = [NewExample(id=str(i), inputs="x", subject_id=f"s{i % 2}") for i in range(6)]
    write(store, pool.id, *rows)
    assert store.delete_examples(pool.id, subject_id="s1") == ["1", "3", "5"]
    assert [e.id for e in store.iterate_live(pool.id)] == ["0", "2", "4"]


def test_past_versions_that_named_the_subject_are_erased_too(store, pool):
    old = write(store, pool.id, NewExample(id="a", inputs="mine", subject_id="s")).seqs[0]
    write(store, pool.id, NewExample(id="a", inputs="another's", subject_id="t"))

    assert store.delete_examples(pool.id, subject_id="s") == [], "its live version belongs to another subject"

    assert store.get_examples_by_seq(pool.id, [old]) == []
    assert store.get_example(pool.id, "a").inputs == "another's"


@pytest.mark.parametrize("wanted", [{}, {"ids": ["a"], "subject_id": "s"}])
def test_a_deletion_names_ids_or_a_subject(store, pool, wanted):
    with pytest.raises(InvalidInput, match="either ids or subject_id"):
        store.delete_examples(pool.id, **wanted)


def test_more_ids_than_fit_one_statement_are_deleted(store, pool):
    ids = [str(i) for i in range(1100)]
    write(store, pool.id, *(NewExample(id=i, inputs=i) for i in ids))
    assert store.delete_examples(pool.id, ids=ids[50:]) == ids[50:]
    assert store.get_pool("tickets").version == 2
    assert store.count_live(pool.id) == 50


@pytest.mark.parametrize("size", [1, 10_000], ids=["in a page", "over many pages"])
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_no_byte_of_a_deleted_example_stays_on_disk(store, pool, tmp_path, size):
    def on_disk():
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    long = " ".join([SECRET] * size)
    for outputs in ("1", "2"):
        write(store, pool.id, a_secret("a", inputs=long, outputs=outputs), NewExample(id="b", inputs="x"))
    assert SECRET.encode() in on_disk()

    store.delete_examples(pool.id, ids=["a"])

    assert SECRET.encode() not in on_disk()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_no_byte_of_a_deleted_pool_stays_on_disk(store, pool, tmp_path):
    write(store, pool.id, a_secret("a"))
    store.delete_pool("tickets")
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
