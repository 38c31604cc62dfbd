"""Which field of an example is its label."""

import pytest

from kshot.index.store.example_rows import PoolChanges
from tests.test_index.builders import fields_of_row, header, published

pytestmark = pytest.mark.usefixtures("without_fsync")


def labels_of(snapshot):
    return [fields_of_row(snapshot, row).get("label") for row in range(len(snapshot))]


@pytest.mark.parametrize(
    ("label_field", "expected"),
    [
        (None, ["yes", None, None]),
        ("outputs", ["yes", None, None]),
        ("outputs.label", [None, "spam", None]),
        ("outputs.stars", [None, "4", None]),
        ("outputs.sure", [None, "true", None]),
        ("outputs.nothing", [None] * 3),
        ("metadata.lang", ["de", "en", None]),
        ("metadata.deep.n", ["1.5", None, None]),
        ("metadata.deep", [None] * 3),
        ("metadata.tags", [None, '["a",1]', None]),
    ],
)
def test_labels_stand_where_the_settings_say(tmp_path, label_field, expected):
    headers = [
        header(1, outputs="yes", metadata={"lang": "de", "deep": {"n": 1.5}}),
        header(
            2, outputs={"label": "spam", "stars": 4, "sure": True}, metadata={"lang": "en", "tags": ["a", 1]}
        ),
        header(3, outputs=None),
    ]
    index = published(tmp_path, headers, label_field=label_field)
    assert labels_of(index.snapshot) == expected
    index.relabel("metadata.lang", headers)
    assert labels_of(index.snapshot) == ["de", "en", None]
    index.relabel(label_field, headers)
    assert labels_of(index.snapshot) == expected


def test_a_new_label_field_does_not_show_headers_that_are_not_published_yet(tmp_path):
    index = published(tmp_path, [header(1, metadata={"lang": "de"}), header(2, metadata={"lang": "en"})])
    newer = header(3, "e1", feature_seq=1, outputs="no", metadata={"lang": "fr"})
    index.relabel("metadata.lang", [newer, header(2, metadata={"lang": "en"})])
    assert fields_of_row(index.snapshot, 0) == {
        "id": "e1",
        "status": "approved",
        "label": "yes",
        "metadata.lang": "de",
    }
    snapshot = index.publish(PoolChanges(2, [1], [newer]))
    assert labels_of(snapshot) == ["fr", "en"]


def many(outputs):
    return [header(seq, outputs=text) for seq, text in enumerate(outputs, start=1)]


@pytest.mark.parametrize(
    ("distinct", "unlabelled", "are_labels"), [(500, 0, True), (500, 3, True), (501, 0, False)]
)
def test_outputs_are_labels_by_default_while_at_most_500_are_distinct(
    tmp_path, distinct, unlabelled, are_labels
):
    headers = many([str(i) for i in range(distinct)] + [None] * unlabelled)
    texts = ["x"] * len(headers)
    index = published(tmp_path, headers, texts, with_tokens=False)
    assert ("label" in index.snapshot.field_to_column) == are_labels
    index.relabel("outputs", headers)
    assert "label" in index.snapshot.field_to_column


def test_each_long_output_counts_as_a_distinct_one(tmp_path):
    # As the store gives them: too long for a header.
    long = [header(seq)._replace(short_outputs=None) for seq in range(1, 500)]
    headers = [*long, header(500, outputs="a"), header(501, outputs="b")]
    index = published(tmp_path, headers, ["x"] * 501, with_tokens=False)
    assert "label" not in index.snapshot.field_to_column
    assert "label" in index.publish(PoolChanges(2, [1], [])).field_to_column


def test_labels_of_deleted_examples_do_not_count(tmp_path):
    headers = many(str(i) for i in range(501))
    index = published(tmp_path, headers, ["x"] * 501, with_tokens=False)
    assert "label" not in index.snapshot.field_to_column
    assert "label" in index.publish(PoolChanges(2, [501], [])).field_to_column
