"""Files as lines of NDJSON: what is picked, and that numbers stay those of the file."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from kshot.clients.cli.samples import QUERIES, TICKETS, read_queries, sample_path
from kshot.clients.cli.sources import Columns, Format, count_lines, format_of, read_lines
from kshot.errors import InvalidInput

AS_IT_IS = Columns()


def read(path: Path, form: Format, columns: Columns = AS_IT_IS) -> list[Any]:
    """Parsed items; None for blank ones."""
    return [json.loads(line) if line.strip() else None for line in read_lines(path, form, columns)]


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", "jsonl"),
        ("a.NDJSON", "jsonl"),
        ("a.b.csv", "csv"),
        ("a.parquet", "parquet"),
        ("-", "jsonl"),
    ],
)
def test_the_format_is_told_by_the_name(name, form):
    assert format_of(Path(name)) == form


def test_a_name_that_tells_no_format_is_refused():
    with pytest.raises(InvalidInput, match="--format"):
        format_of(Path("examples.txt"))


def test_jsonl_passes_as_it_is(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"inputs": "a"}\n\n{broken\r\n{"inputs": "ü"}')
    assert list(read_lines(path, Format.JSONL, AS_IT_IS)) == [
        b'{"inputs": "a"}\n',
        b"\n",
        b"{broken\r\n",
        '{"inputs": "ü"}'.encode(),
    ]


def test_standard_input_is_read_as_jsonl(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b'{"inputs": "a"}\n')

    monkeypatch.setattr("sys.stdin", Stdin)
    assert read(Path("-"), Format.JSONL) == [{"inputs": "a"}]


def test_fields_of_jsonl_are_picked_and_broken_lines_are_left_to_the_server(tmp_path):
    rows = '{"key": 7, "subject": "S", "body": "B", "label": "L", "lang": "en", "other": 1}\n{broken\n[1]\n'
    columns = Columns(inputs=("subject", "body"), outputs=("label",), metadata=("lang", "absent"), id="key")
    lines = list(read_lines(write(tmp_path, "a.jsonl", rows), Format.JSONL, columns))
    assert json.loads(lines[0]) == {
        "id": "7",
        "inputs": {"subject": "S", "body": "B"},
        "outputs": "L",
        "metadata": {"lang": "en"},
    }
    assert lines[1:] == [b"{broken\n", b"[1]\n"]


def test_csv_records_stand_on_the_line_that_they_begin_on(tmp_path):
    text = '\ufeffinputs,outputs\r\n"two\r\nlines",A\r\nb,B\r\n"x, ""y""",\r\n'
    assert read(write(tmp_path, "a.csv", text), Format.CSV) == [
        None,
        {"inputs": "two\r\nlines", "outputs": "A"},
        None,
        {"inputs": "b", "outputs": "B"},
        {"inputs": 'x, "y"'},
    ]


def test_csv_columns_are_picked_by_name(tmp_path):
    path = write(tmp_path, "a.csv", "nr,text,tag,lang\n1,hello,A,en\n2,bye,,\n")
    columns = Columns(inputs=("text",), outputs=("tag",), metadata=("lang",), id="nr")
    assert read(path, Format.CSV, columns) == [
        None,
        {"id": "1", "inputs": "hello", "outputs": "A", "metadata": {"lang": "en"}},
        {"id": "2", "inputs": "bye"},
    ]


def test_a_missing_column_is_refused_with_those_there_are(tmp_path):
    path = write(tmp_path, "a.csv", "text,tag\nhello,A\n")
    with pytest.raises(InvalidInput, match="no column inputs; there are text, tag"):
        read(path, Format.CSV)
    with pytest.raises(InvalidInput, match="no column label, id"):
        read(path, Format.CSV, Columns(inputs=("text",), outputs=("label",), id="id"))


@pytest.mark.parametrize("data", [b'inputs,outputs\na,"open', b"inputs,outputs\n\xff\xfe,b\n"])
def test_what_is_no_csv_is_an_error_that_names_the_place(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"after line [01]"):
        read(path, Format.CSV)


def test_parquet_rows_become_examples(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["a", "b"], "n": [1, 2], "fields": [{"y": 1}, None], "t": [pa.scalar(0), None]})
    parquet.write_table(table, path)
    columns = Columns(inputs=("text",), outputs=("fields",), metadata=("n",))
    assert read(path, Format.PARQUET, columns) == [
        {"inputs": "a", "outputs": {"y": 1}, "metadata": {"n": 1}},
        {"inputs": "b", "metadata": {"n": 2}},
    ]
    with pytest.raises(InvalidInput, match="no column inputs; there are text, n, fields, t"):
        read(path, Format.PARQUET)


def test_what_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"a\.parquet is no Parquet file"):
        read(write(tmp_path, "a.parquet", "text"), Format.PARQUET)


def test_lines_are_counted_where_that_is_cheap(tmp_path):
    path = write(tmp_path, "a.jsonl", "1\n2\n3\n")
    assert count_lines(path, Format.JSONL) == 3
    assert count_lines(Path("-"), Format.JSONL) is None
    assert count_lines(path, Format.PARQUET) is None


def test_the_example_files_are_found_and_read():
    assert sample_path(TICKETS).is_file()
    queries = read_queries(sample_path(QUERIES))
    assert len(queries) == 40
    assert all(isinstance(query.inputs, str) and query.outputs for query in queries)


def test_an_example_file_that_is_not_there_is_named():
    with pytest.raises(InvalidInput, match=r"absent\.jsonl"):
        sample_path("absent.jsonl")


@pytest.mark.parametrize("line", ["{broken", "[]", "7", '{"outputs": "a"}'])
def test_a_broken_query_is_named_by_its_line(tmp_path, line):
    path = write(tmp_path, "q.jsonl", f'{{"inputs": "a"}}\n\n{line}\n')
    with pytest.raises(InvalidInput, match=r"q\.jsonl line 3"):
        read_queries(path)
