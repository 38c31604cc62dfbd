from dataclasses import replace

import pytest

from kshot.errors import ExampleNotFound, InvalidInput
from kshot.index.store import ExampleHeader
from kshot.records import NewExample, Status, content_hash, input_hash
from tests.test_index.test_store.cases import write

LETTERS = "abcdefghij"


@pytest.fixture
def seqs(store, pool):
    """Return the seqs of ten examples with ids a to j."""
    rows = [
        NewExample(
            id=letter,
            inputs=f"text {letter}",
            outputs="even" if i % 2 == 0 else None,
            split="test" if i < 3 else None,
            status=Status.DRAFT if i == 4 else Status.APPROVED,
            subject_id=f"s{i // 4}",
            group="g" if i in {2, 5} else None,
        )
        for i, letter in enumerate(LETTERS)
    ]
    return write(store, pool.id, *rows).seqs


def test_a_missing_example_is_said_to_be_missing(store, pool):
    with pytest.raises(ExampleNotFound, match="'zz'"):
        store.get_example(pool.id, "zz")


def test_examples_come_in_the_order_asked(store, pool, seqs):
    asked = [seqs[5], seqs[0], seqs[9], seqs[0]]
    assert [e.id for e in store.get_examples_by_seq(pool.id, asked)] == ["f", "a", "j", "a"]


def test_unknown_seqs_are_left_out(store, pool, seqs):
    assert [e.id for e in store.get_examples_by_seq(pool.id, [10**12, seqs[3], -1])] == ["d"]
    assert store.get_examples_by_seq(pool.id, []) == []


def test_more_seqs_than_fit_one_statement_are_found(store, pool):
    seqs = write(store, pool.id, *(NewExample(id=str(i), inputs=str(i)) for i in range(1100))).seqs
    assert [e.seq for e in store.get_examples_by_seq(pool.id, seqs[::-1])] == seqs[::-1]


def test_pages_follow_one_another_without_gap(store, pool, seqs):
    seen, after = [], 0
    while page := store.list_examples(pool.id, after_seq=after, limit=3):
        seen.append([e.id for e in page])
        after = page[-1].seq
    assert seen == [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"], ["j"]]
    assert after == seqs[-1]


@pytest.mark.parametrize(
    ("wanted", "letters"),
    [
        ({"ids": ["j", "b", "zz", "a"]}, "abj"),
        ({"ids": []}, ""),
        ({"status": Status.DRAFT}, "e"),
        ({"split": "test"}, "abc"),
        ({"subject_id": "s1"}, "efgh"),
        ({"group": "g"}, "cf"),
        ({"subject_id": "s1", "status": Status.APPROVED, "limit": 2}, "fg"),
        ({"ids": list("hgfe"), "limit": 3}, "efg"),
    ],
)
def test_a_listing_can_be_narrowed(store, pool, seqs, wanted, letters):
    assert seqs
    assert [e.id for e in store.list_examples(pool.id, **wanted)] == list(letters)


def test_a_narrowed_listing_has_pages_too(store, pool, seqs):
    page = store.list_examples(pool.id, ids=list("abcd"), after_seq=seqs[1])
    assert [e.id for e in page] == ["c", "d"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"limit": 0}, "limit is 0"), ({"ids": ["a"] * 501}, "501 ids")],
)
def test_a_listing_out_of_range_is_refused(store, pool, wanted, message):
    with pytest.raises(InvalidInput, match=message):
        store.list_examples(pool.id, **wanted)


def test_superseded_and_erased_examples_are_not_listed(store, pool, seqs):
    write(store, pool.id, NewExample(id="a", inputs="new"))
    store.delete_examples(pool.id, ids=["b"])

    assert [e.id for e in store.list_examples(pool.id)] == [*"cdefghij", "a"]
    assert store.count_live(pool.id) == 9
    assert [e.id for e in store.get_examples_by_seq(pool.id, seqs[:2])] == ["a"], "superseded, still readable"


def test_headers_hold_everything_but_the_texts(store, pool):
    row = NewExample(
        id="a",
        inputs={"q": "?"},
        outputs="yes",
        metadata={"n": 1},
        split="train",
        status=Status.RETIRED,
        subject_id="s",
        group="g",
    )
    seq = write(store, pool.id, row).seqs[0]

    assert list(store.iterate_headers(pool.id)) == [
        ExampleHeader(
            id="a",
            seq=seq,
            feature_seq=seq,
            status=Status.RETIRED,
            split="train",
            subject_id="s",
            group="g",
            content_hash=content_hash({"q": "?"}, "yes"),
            input_hash=input_hash({"q": "?"}),
            has_outputs=True,
            short_outputs="yes",
            metadata={"n": 1},
        )
    ]


@pytest.mark.parametrize(
    ("outputs", "short"),
    [
        (None, None),
        ("", ""),
        ("é" * 200, "é" * 200),
        ("x" * 201, None),
        (
            {"label": "yes", "stars": 4, "sure": True, "why": "x" * 201, "parts": ["a"], "note": None},
            {"label": "yes", "stars": 4, "sure": True},
        ),
        ({"why": "x" * 201}, None),
        ({str(i): i for i in range(40)}, {str(i): i for i in range(32)}),
    ],
)
def test_a_header_holds_outputs_that_may_be_labels(store, pool, outputs, short):
    write(store, pool.id, NewExample(id="a", inputs="x", outputs=outputs))
    (header,) = store.iterate_headers(pool.id)
    assert (header.has_outputs, header.short_outputs) == (outputs is not None, short)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 11])
def test_iteration_is_in_feature_order_whatever_the_batch(store, pool, seqs, batch_size):
    write(store, pool.id, NewExample(id="d", inputs="text d", outputs="kept"))
    write(store, pool.id, NewExample(id="b", inputs="moved to the end"))

    live = list(store.iterate_live(pool.id, batch_size=batch_size))
    assert [e.id for e in live] == [*"acdefghij", "b"]
    assert live[2].feature_seq == seqs[3] < live[2].seq
    headers = list(store.iterate_headers(pool.id, batch_size=batch_size))
    assert [(h.id, h.seq, h.feature_seq) for h in headers] == [(e.id, e.seq, e.feature_seq) for e in live]


def test_iteration_shows_one_version_while_others_write(store, pool, seqs):
    iterator = store.iterate_live(pool.id, batch_size=2)
    first = next(iterator)
    write(store, pool.id, NewExample(id="new", inputs="x"), NewExample(id="e", inputs="updated"))
    store.delete_examples(pool.id, ids=["f"])

    rest = list(iterator)
    # The erased one is gone at once: its text must not be handed out any more.
    assert [e.id for e in [first, *rest]] == [*"abcde", *"ghij"]
    assert rest[3].inputs == "text e"
    assert rest[3].seq == seqs[4]


def test_an_earlier_version_can_be_iterated(store, pool, seqs):
    write(store, pool.id, NewExample(id="a", inputs="new"), NewExample(id="z", inputs="z"))

    assert [h.seq for h in store.iterate_headers(pool.id, at_version=1)] == seqs
    assert [h.id for h in store.iterate_headers(pool.id, at_version=2)] == [*"bcdefghij", "a", "z"]
    assert list(store.iterate_headers(pool.id, at_version=0)) == []


def test_equal_inputs_are_found_under_their_ids(store, pool, seqs):
    assert seqs
    twin = NewExample(id="0twin", inputs="text a", outputs="another")
    write(store, pool.id, twin, NewExample(id="c", inputs="text a"))
    store.delete_examples(pool.id, ids=["d"])
    wanted = [input_hash(f"text {letter}") for letter in "abcd"]

    assert store.ids_of_equal_inputs(pool.id, [*wanted, *wanted]) == {
        wanted[0]: ("0twin", "c"),
        wanted[1]: ("b", "b"),
    }


def test_changes_are_the_net_effect(store, pool, seqs):
    write(store, pool.id, NewExample(id="a", inputs="a2"), NewExample(id="n", inputs="n1"))
    write(store, pool.id, NewExample(id="a", inputs="a3"), NewExample(id="n", inputs="n2"))
    store.delete_examples(pool.id, ids=["n", "b"])

    changes = store.read_changes(pool.id, after_version=1)
    assert (changes.version, changes.removed) == (4, seqs[:2])
    assert [(h.id, h.content_hash) for h in changes.added] == [("a", content_hash("a3", None))]

    assert store.read_changes(pool.id, after_version=4) == (4, [], [])
    assert [h.id for h in store.read_changes(pool.id, after_version=0).added] == [*"cdefghij", "a"]
    assert store.read_changes(pool.id, after_version=0).removed == []


def test_changes_say_which_features_are_kept(store, pool, seqs):
    write(store, pool.id, NewExample(id="c", inputs="text c", outputs="new label"))
    changes = store.read_changes(pool.id, after_version=1)
    assert changes.removed == [seqs[2]]
    assert [(h.feature_seq, h.short_outputs) for h in changes.added] == [(seqs[2], "new label")]


def test_records_read_twice_are_equal_and_not_shared(store, pool, seqs):
    first, second = (store.get_examples_by_seq(pool.id, seqs[:1])[0] for _ in range(2))
    assert first == second == replace(first)
    first.metadata["n"] = 1
    assert second.metadata == {}
