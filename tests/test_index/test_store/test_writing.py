import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kshot.errors import ExampleNotFound, InvalidInput
from kshot.records import NewExample, Status
from tests.test_index.test_store.cases import content, same_inputs, write

FULL = NewExample(
    id="ticket 1/ü",
    inputs={"title": "Grüße 🙂", "body": 'quote " backslash \\ newline \n tab \t null \u0000'},
    outputs={"answer": "да"},
    metadata={"lang": "de", "n": 3, "x": 2.5, "ok": True, "none": None, "tags": ["a", {"b": []}]},
    split="train",
    status=Status.DRAFT,
    subject_id="customer 7",
    group="dialogue 3",
    vector=bytes(range(256)),
)


def test_an_example_comes_back_as_it_was_given(store, pool, clock):
    result = write(store, pool.id, FULL)

    stored = store.get_example(pool.id, FULL.id)
    assert content(stored) == FULL
    assert result == (1, ["created"], [stored.seq])
    assert (stored.feature_seq, stored.added_in, stored.removed_in) == (stored.seq, 1, None)
    assert stored.created_at == stored.updated_at == clock.now
    assert store.get_pool("tickets").version == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"',
        "\\",
        '"quoted"',
        "{}",
        "null",
        "1",
        " padded ",
        "\u2028",
        "👩‍👩‍👧",
        "x" * 1_000_000,
        "ä\\" * 500_000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_any_text_comes_back_unchanged(store, pool, text):
    write(store, pool.id, NewExample(id="a", inputs=text, outputs=text, metadata={"m": text}))

    stored = store.get_example(pool.id, "a")
    assert (stored.inputs, stored.outputs, stored.metadata) == (text, text, {"m": text})


@pytest.mark.parametrize(
    "example",
    [
        NewExample(id="a\x00", inputs="x"),
        NewExample(id="\ud800", inputs="x"),
        NewExample(id="a", inputs="\ud800"),
        NewExample(id="a", inputs="x", outputs="\ud800"),
        NewExample(id="a", inputs="x", subject_id="s\x00"),
        NewExample(id="a", inputs="x", metadata={"x": math.nan}),
        NewExample(id="a", inputs="x", metadata={"x": math.inf}),
        NewExample(id="a", inputs="x", metadata={"x": object()}),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_and_nothing_is_written(store, pool, example):
    with pytest.raises(InvalidInput):
        write(store, pool.id, NewExample(id="good", inputs="x"), example)
    assert (store.count_live(pool.id), store.get_pool("tickets").version) == (0, 0)


def test_an_identical_second_post_changes_nothing(store, pool, clock):
    first = write(store, pool.id, FULL, NewExample(id="b", inputs="x"))
    before = store.get_example(pool.id, FULL.id)
    clock.advance(hours=1)

    shuffled = replace(FULL, metadata=dict(reversed(list(FULL.metadata.items()))))
    assert write(store, pool.id, shuffled, NewExample(id="b", inputs="x")) == (
        1,
        ["unchanged", "unchanged"],
        first.seqs,
    )
    assert store.get_example(pool.id, FULL.id) == before


@pytest.mark.parametrize(
    ("changes", "keeps"),
    [
        ({"inputs": "other"}, False),
        ({"vector": b"\x00\x00\x80\x3f"}, False),
        ({"vector": None}, False),
        ({"outputs": "other"}, True),
        ({"outputs": None}, True),
        ({"metadata": {"n": 1}}, True),
        ({"split": None}, True),
        ({"status": Status.RETIRED}, True),
        ({"subject_id": "customer 8"}, True),
        ({"group": None}, True),
    ],
)
def test_other_content_is_a_new_version_that_keeps_features_when_told(store, pool, clock, changes, keeps):
    old_seq = write(store, pool.id, FULL).seqs[0]
    old = store.get_example(pool.id, FULL.id)
    clock.advance(hours=1)

    result = write(store, pool.id, replace(FULL, **changes))

    new = store.get_example(pool.id, FULL.id)
    assert result == (2, ["updated"], [new.seq])
    assert content(new) == replace(FULL, **changes)
    assert new.seq > old_seq
    assert new.feature_seq == (old_seq if keeps else new.seq)
    assert (new.added_in, new.removed_in) == (2, None)
    assert (new.created_at, new.updated_at) == (old.created_at, clock.now)
    # The old version keeps its content, for replay.
    assert store.get_examples_by_seq(pool.id, [old_seq]) == [replace(old, removed_in=2)]


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (0, False), ("1", 1), (None, "null")])
def test_values_that_only_python_takes_for_equal_are_a_change(store, pool, before, after):
    write(store, pool.id, NewExample(id="a", inputs="x", metadata={"n": before}))
    result = write(store, pool.id, NewExample(id="a", inputs="x", metadata={"n": after}))
    assert result.outcomes == ["updated"]
    assert repr(store.get_example(pool.id, "a").metadata) == repr({"n": after})


def test_features_pass_through_several_versions(store, pool):
    first = write(store, pool.id, NewExample(id="a", inputs="x", outputs="1")).seqs[0]
    for outputs in ("2", "3"):
        write(store, pool.id, NewExample(id="a", inputs="x", outputs=outputs))
    assert store.get_example(pool.id, "a").feature_seq == first


def test_one_batch_is_one_version_whatever_it_mixes(store, pool):
    write(store, pool.id, *(NewExample(id=name, inputs=name) for name in "abc"))

    result = write(
        store,
        pool.id,
        NewExample(id="d", inputs="d"),
        NewExample(id="a", inputs="a"),
        NewExample(id="b", inputs="B"),
    )

    assert (result.version, result.outcomes) == (2, ["created", "unchanged", "updated"])
    assert result.seqs == [store.get_example(pool.id, name).seq for name in "dab"]
    assert {e.id: e.added_in for e in store.iterate_live(pool.id)} == {"a": 1, "b": 2, "c": 1, "d": 2}


def test_batches_larger_than_one_look_up_are_compared_whole(store, pool):
    rows = [NewExample(id=str(i), inputs=str(i)) for i in range(1234)]
    created = write(store, pool.id, *rows)
    assert created.seqs == sorted(created.seqs)

    again = write(store, pool.id, *reversed(rows))
    assert set(again.outcomes) == {"unchanged"}
    assert again.seqs == created.seqs[::-1]


def test_an_empty_batch_changes_nothing(store, pool):
    assert write(store, pool.id) == (0, [], [])


def test_an_id_twice_in_a_batch_is_refused(store, pool):
    with pytest.raises(InvalidInput, match="'a' occurs twice") as caught:
        write(store, pool.id, *(NewExample(id=name, inputs="x") for name in "aba"))
    assert [(e.pointer, e.code) for e in caught.value.errors] == [("/examples/2/id", "duplicate_id")]


def test_pools_do_not_see_each_others_examples(store, pool):
    other = store.create_pool("other", {})
    seq = write(store, pool.id, NewExample(id="a", inputs="x")).seqs[0]

    assert write(store, other.id, NewExample(id="a", inputs="x")).outcomes == ["created"]
    assert store.get_examples_by_seq(other.id, [seq]) == []
    assert store.delete_examples(other.id, ids=["a"]) == ["a"]
    assert [e.id for e in store.iterate_live(pool.id)] == ["a"]


def test_a_patch_replaces_the_fields_given(store, pool, clock):
    write(store, pool.id, FULL)
    clock.advance(hours=1)

    patched = store.patch_example(
        pool.id, FULL.id, {"outputs": "yes", "status": Status.APPROVED}, keeps_features=same_inputs
    )

    assert patched == store.get_example(pool.id, FULL.id)
    assert content(patched) == replace(FULL, outputs="yes", status=Status.APPROVED)
    assert patched.feature_seq < patched.seq
    assert store.get_pool("tickets").version == 2


def test_a_patch_with_equal_values_changes_nothing(store, pool):
    write(store, pool.id, FULL)
    before = store.get_example(pool.id, FULL.id)
    assert store.patch_example(pool.id, FULL.id, {"split": "train"}, keeps_features=same_inputs) == before
    assert store.get_pool("tickets").version == 1


def test_a_patch_asks_whether_features_are_kept(store, pool):
    write(store, pool.id, FULL)
    changed = store.patch_example(
        pool.id, FULL.id, {"metadata": {}}, keeps_features=lambda old, new: old.metadata == new.metadata
    )
    assert changed.feature_seq == changed.seq


def test_a_patch_of_an_unknown_field_names_the_allowed_ones(store, pool):
    write(store, pool.id, FULL)
    with pytest.raises(InvalidInput, match=r"\['id', 'seq'\], allowed are \['group', 'inputs'"):
        store.patch_example(pool.id, FULL.id, {"seq": 1, "id": "b"}, keeps_features=same_inputs)


def test_a_patch_of_a_missing_example_says_so(store, pool):
    with pytest.raises(ExampleNotFound, match="'a'"):
        store.patch_example(pool.id, "a", {"outputs": "x"}, keeps_features=same_inputs)


def test_an_exception_in_the_callback_rolls_back(store, pool):
    write(store, pool.id, NewExample(id="a", inputs="x"))

    def broken(_old, _new):
        raise RuntimeError("no template")

    batch = [NewExample(id="b", inputs="y"), NewExample(id="a", inputs="z")]
    with pytest.raises(RuntimeError, match="no template"):
        store.upsert_examples(pool.id, batch, keeps_features=broken)
    assert [content(e) for e in store.iterate_live(pool.id)] == [NewExample(id="a", inputs="x")]
    assert write(store, pool.id, NewExample(id="b", inputs="y")).version == 2


def test_existing_examples_stay_as_they_are_where_told_to(store, pool):
    write(store, pool.id, NewExample(id="a", inputs="one", outputs="yes"))
    batch = [NewExample(id="a", inputs="one"), NewExample(id="b", inputs="two")]
    result = store.upsert_examples(pool.id, batch, keeps_features=same_inputs, keep_existing=True)
    assert result.outcomes == ["unchanged", "created"]
    assert store.get_example(pool.id, "a").outputs == "yes"
    again = store.upsert_examples(pool.id, batch, keeps_features=same_inputs, keep_existing=True)
    assert (again.version, again.outcomes) == (result.version, ["unchanged", "unchanged"])


def test_a_revision_gets_what_is_live_and_writes_what_it_returns(store, pool, clock):
    write(store, pool.id, FULL, NewExample(id="a", inputs="x"), NewExample(id="b", inputs="y"))
    store.delete_examples(pool.id, ids=["b"])
    clock.advance(hours=1)
    seen = {}

    def revise(id_to_example):
        seen.update(id_to_example)
        return [replace(FULL, outputs="yes"), NewExample(id="a", inputs="x")]

    ids = [FULL.id, "a", "b", "nobody"]
    assert store.revise_examples(pool.id, ids, revise, keeps_features=same_inputs) == 3
    assert seen.keys() == {FULL.id, "a"}
    revised = store.get_example(pool.id, FULL.id)
    assert content(revised) == replace(FULL, outputs="yes")
    assert (revised.added_in, revised.updated_at) == (3, clock.now)
    assert revised.feature_seq == seen[FULL.id].seq
    # What is returned as it was is left alone.
    assert store.get_example(pool.id, "a") == seen["a"]
    assert store.get_pool("tickets").version == 3


def test_a_revision_that_changes_nothing_makes_no_version(store, pool):
    write(store, pool.id, FULL)
    for revised in ([], [FULL]):
        version = store.revise_examples(
            pool.id, [FULL.id], lambda _, revised=revised: revised, keeps_features=same_inputs
        )
        assert version == store.get_pool("tickets").version == 1


@pytest.mark.parametrize(
    "revised",
    [
        [NewExample(id="a", inputs="z"), NewExample(id="a", inputs="w")],
        [NewExample(id="a", inputs="z"), NewExample(id="b", inputs={"x": math.nan})],
    ],
)
def test_a_revision_that_cannot_be_stored_leaves_nothing_behind(store, pool, revised):
    write(store, pool.id, NewExample(id="a", inputs="x"), NewExample(id="b", inputs="y"))
    with pytest.raises(InvalidInput):
        store.revise_examples(pool.id, ["a", "b"], lambda _: revised, keeps_features=same_inputs)
    assert [content(e).inputs for e in store.iterate_live(pool.id)] == ["x", "y"]
    assert store.get_pool("tickets").version == 1


def test_revisions_see_each_other(store, pool):
    write(store, pool.id, NewExample(id="a", inputs="x", metadata={"n": 0}))

    def increase(id_to_example):
        return [NewExample(id="a", inputs="x", metadata={"n": id_to_example["a"].metadata["n"] + 1})]

    with ThreadPoolExecutor(6) as threads:
        waiting = [
            threads.submit(store.revise_examples, pool.id, ["a"], increase, keeps_features=same_inputs)
            for _ in range(30)
        ]
    assert sorted(one.result() for one in waiting) == list(range(2, 32))
    assert store.get_example(pool.id, "a").metadata == {"n": 30}
