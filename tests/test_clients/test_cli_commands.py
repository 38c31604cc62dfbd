"""Commands from end to end, on a data folder opened in this process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import kshot
from tests.test_clients.command_line import Run, forget_environment

ROWS: list[dict[str, Any]] = [
    {"id": "t1", "inputs": "where is my parcel", "outputs": "order_status", "metadata": {"lang": "en"}},
    {"id": "t2", "inputs": "parcel not arrived", "outputs": "order_status", "split": "train", "group": "g"},
    {"id": "t3", "inputs": "money back", "outputs": "refund", "subject_id": "s", "status": "draft"},
    {"id": "t4", "inputs": {"subject": "Geld", "n": 2}, "outputs": {"intent": "refund"}},
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one pool."""
    folder = tmp_path_factory.mktemp("filled") / "data"
    with kshot.LocalClient(folder) as client:
        client.create_pool("tickets", embedder="hashing", select={"k": 3}, retention_days=7)
        client.upsert("tickets", ROWS)
    return folder


@pytest.fixture
def data(filled, tmp_path) -> Path:
    """A copy of the filled folder that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_a_pool_is_created_listed_and_counted(tmp_path):
    data = tmp_path / "new"
    made = Run("pool", "create", "tickets", "--embedder", "hashing", "--data", data)
    assert (made.code, made.out) == (0, "pool tickets with embedder hashing\n")
    settings = '{"select": {"k": 2}}'
    other = Run(
        "--data", data, "--json", "pool", "create", "b", "--embedder", "hashing", "--settings", settings
    )
    assert other.json["settings"]["select"]["k"] == 2
    listed = Run("pool", "ls", "--data", data)
    assert "tickets" in listed.out
    assert [pool["name"] for pool in Run("pool", "ls", "--data", data, "--json").json] == ["b", "tickets"]


def test_a_pool_that_exists_is_an_error_unless_that_is_fine(data):
    again = Run("pool", "create", "tickets", "--embedder", "hashing", "--data", data)
    assert again.code == 1
    assert "--exist-ok" in again.err
    assert Run("pool", "create", "tickets", "--exist-ok", "--data", data).code == 0


def test_an_embedder_with_parameters_is_json(tmp_path):
    spec = '{"type": "external", "dimension": 3}'
    made = Run("pool", "create", "v", "--embedder", spec, "--data", tmp_path / "d", "--json")
    assert made.json["settings"]["embedder"] == {"type": "external", "dimension": 3}


def test_stats_count_examples(data):
    assert Run("pool", "stats", "tickets", "--data", data, "--json").json["examples"] == 4
    shown = Run("pool", "stats", "tickets", "--data", data).out
    assert "order_status" in shown
    assert "draft" in shown


def test_health_is_shown_where_it_is_asked_for(tmp_path):
    data, labels = tmp_path / "d", ["one"] * 12 + ["two"] * 12
    rows: list[dict[str, Any]] = [
        {
            "id": f"e{i}",
            "inputs": f"text {i}",
            "outputs": "two" if i == 5 else label,
            "vector": [1.0, i / 500] if label == "one" else [i / 500, 1.0],
        }
        for i, label in enumerate(labels)
    ]
    with kshot.LocalClient(data) as client:
        client.create_pool("p", embedder={"type": "external", "dimension": 2})
        client.upsert("p", rows)
    assert Run("pool", "stats", "p", "--data", data, "--json").json["health"] is None
    assert "near-duplicates" not in Run("pool", "stats", "p", "--data", data).out
    found = Run("pool", "stats", "p", "--health", "--data", data, "--json").json["health"]
    assert [one["id"] for one in found["labels"]["suspects"]] == ["e5"]
    shown = Run("pool", "stats", "p", "--health", "--data", data).out
    for text in ("near-duplicates (cosine 0.95)", "100 %", "1 of 24 labelled", "e5", "log-determinant"):
        assert text in shown
    # The counts come first, as without it.
    assert shown.index("examples") < shown.index("near-duplicates")


def test_a_file_is_ingested_into_a_new_pool(tmp_path, rows_file):
    arguments = (
        "ingest",
        rows_file,
        "--pool",
        "p",
        "--create",
        "--embedder",
        "hashing",
        "--data",
        tmp_path / "d",
    )
    first = Run(*arguments)
    assert (first.code, first.out) == (0, "pool p: 4 stored (4 new, 0 updated, 0 unchanged), 0 rejected\n")
    again = Run(*arguments, "--json")
    assert (again.json["unchanged"], again.json["indexed"]) == (4, True)


def test_rejected_rows_are_listed_by_line_and_end_with_one(data):
    Path("bad.jsonl").write_text('{"inputs": "fine"}\n\n{broken\n{"inputs": " "}\n', encoding="utf-8")
    run = Run("ingest", "bad.jsonl", "--pool", "tickets", "--data", data)
    assert run.code == 1
    assert run.out == "pool tickets: 1 stored (1 new, 0 updated, 0 unchanged), 2 rejected\n"
    assert "line 3: " in run.err
    assert "line 4: /inputs is empty" in run.err


def test_only_the_first_rejected_rows_are_listed(data):
    Path("bad.jsonl").write_text('{"inputs": ""}\n' * 30, encoding="utf-8")
    run = Run("ingest", "bad.jsonl", "--pool", "tickets", "--data", data)
    assert run.err.count("line ") == 20
    assert "and 10 more rejected rows" in run.err


def test_csv_columns_become_examples(data):
    Path("mails.csv").write_text("nr,text,tag\n9,hello there,greeting\n", encoding="utf-8")
    options = ("--input-field", "text", "--output-field", "tag", "--id-field", "nr")
    assert Run("ingest", "mails.csv", "-p", "tickets", *options, "--data", data).code == 0
    with kshot.LocalClient(data) as client:
        stored = client.get_example("tickets", "9")
    assert (stored.inputs, stored.outputs) == ("hello there", "greeting")


def test_standard_input_is_ingested(data):
    run = Run("ingest", "-", "-p", "tickets", "--data", data, stdin='{"inputs": "from a pipe"}\n')
    assert run.out.startswith("pool tickets: 1 stored (1 new")


def test_ingesting_into_a_pool_that_is_not_there_tells_how_to_make_it(data, rows_file):
    run = Run("ingest", rows_file, "-p", "absent", "--data", data)
    assert run.code == 1
    assert "kshot pool create" in run.err


def test_a_selection_is_a_table_for_people_and_json_for_programs(data):
    people = Run(
        "select", "tickets", "where is my parcel", "--k", "2", "--method", "similarity", "--data", data
    )
    assert people.code == 0
    assert people.out.index("t2") < people.out.index("t1")
    assert "selection" in people.err
    programs = Run(
        "select", "tickets", "where is my parcel", "-k", "2", "-m", "similarity", "--json", "--data", data
    )
    assert [shown["id"] for shown in programs.json["demonstrations"]] == ["t2", "t1"]
    assert programs.err == ""


def test_everything_that_shapes_a_set_is_an_option(data):
    def chosen(*options):
        return Run(
            "select", "tickets", "where is my parcel", "-k", "3", "--json", *options, "--data", data
        ).json

    def names(reply):
        return [one["id"] for one in reply["demonstrations"]]

    plain = ("-m", "similarity", "--order", "as_selected")
    assert names(chosen(*plain)) == ["t1", "t2", "t4"]
    assert names(chosen("-m", "similarity", "--order", "nearest_last")) == ["t4", "t2", "t1"]
    assert names(chosen(*plain, "--exclude", '{"ids": ["t1"]}')) == ["t2", "t4"]
    assert names(chosen(*plain, "--min-score", "0.9")) == ["t1"]
    assert names(chosen(*plain, "--distinct", "0.05")) == ["t1", "t4"]
    assert names(chosen(*plain, "--max-tokens", "1", "--packing", "prefix_skip")) == []
    core = chosen(*plain, "--stable", "2")
    assert [one["part"] for one in core["demonstrations"]] == ["stable", "stable", "dynamic"]
    blocks = chosen(*plain, "--stable", '{"k": 2, "block_tokens": 8}')["usage"]
    assert blocks["cacheable_tokens"] % 8 == 0
    assert chosen(*plain, "--sticky", "2")["cluster"] in {"t1", "t2", "t4"}
    curve = chosen(*plain, "--adaptive", "1000")["curve"]
    assert [step["kept"] for step in curve] == [True, False, False]
    curve = chosen(*plain, "--adaptive", '{"min_gain_per_token": 1000, "min_k": 2}')["curve"]
    assert [step["kept"] for step in curve] == [True, True, False]
    drawn = {tuple(names(chosen("-m", "random", "-k", "1", "--seed", str(seed)))) for seed in range(12)}
    assert len(drawn) > 1
    for option in ("--stable", "--distinct", "--adaptive"):
        refused = Run("select", "tickets", "x", option, "much", "--data", data)
        assert (refused.code, "neither a number nor a JSON object" in refused.err) == (2, True)


def test_people_are_told_how_exact_a_choice_is_and_what_is_cacheable(data):
    shown = Run("select", "tickets", "where is my parcel", "-k", "2", "--data", data)
    assert "exact, 3 candidates scored\n" in shown.err
    options = ("--stable", "1", "--sticky", "1", "--adaptive", "1000")
    shown = Run("select", "tickets", "where is my parcel", "-k", "2", *options, "--data", data)
    assert "exact, 2 candidates scored; prefix " in shown.err
    assert " tokens, " in shown.err
    assert "cacheable; the set of t" in shown.err
    assert "gain per token" in shown.out


def test_a_query_of_fields_and_a_method_with_parameters_are_json(data):
    method = '{"type": "mmr", "diversity": 0.4}'
    run = Run("select", "tickets", '{"subject": "Geld"}', "-m", method, "--explain", "--json", "--data", data)
    assert run.json["explain"]["params"]["diversity"] == 0.4
    shown = Run("select", "tickets", "parcel", "-m", method, "-k", "1", "--explain", "--data", data)
    assert "came close" in shown.out
    assert "diversity" in shown.out


def test_an_explanation_draws_what_each_demonstration_covers(data):
    run = Run("select", "tickets", "my parcel", "-k", "2", "-m", "similarity", "--explain", "--data", data)
    lines = run.out.splitlines()
    top = next(place for place, line in enumerate(lines) if line.split() == ["my", "parcel"])
    first, second = (line.split() for line in lines[top + 1 : top + 3])
    assert (first[:2], second[:2]) == (["1", "t2"], ["2", "t1"])
    assert second[-2:] == ["1.0*", "1.0"], "t1 has both words"
    assert first[-1] == "1.0*", "of equals the first"
    assert "100% of the query" in run.out
    programs = Run("select", "tickets", "my parcel", "-k", "2", "--explain", "--json", "--data", data)
    tokens = programs.json["explain"]["coverage"]["tokens"]
    assert [token["text"] for token in tokens] == ["my", "parcel"]


def test_an_explanation_without_token_vectors_has_no_map(tmp_path):
    data = tmp_path / "own"
    with kshot.LocalClient(data) as client:
        client.create_pool("own", embedder={"type": "external", "dimension": 2})
        client.upsert("own", [{"id": "a", "inputs": "x y", "outputs": "z", "vector": [1.0, 0.0]}])
    run = Run("select", "own", "x", "-m", "bm25", "--explain", "--data", data)
    assert run.code == 0
    assert "came close" in run.out
    assert "of the query" not in run.out


def test_gaps_are_listed_the_worst_first(data):
    none = Run("pool", "gaps", "tickets", "--data", data)
    assert (none.code, none.out, none.err) == (0, "", "no gaps in pool tickets\n")
    for query in ("zyxwv", "qqq jjj", "zyxwv", "where is my parcel"):
        chosen = Run("select", "tickets", query, "-m", "similarity", "--data", data)
        assert ("coverage_gap" in chosen.err) == (query != "where is my parcel")
    listed = Run("pool", "gaps", "tickets", "--data", data, "--json").json
    assert {gap["query"]: gap["count"] for gap in listed} == {"zyxwv": 2, "qqq jjj": 1}
    assert listed[0]["best_similarity"] <= listed[1]["best_similarity"]
    shown = Run("pool", "gaps", "tickets", "--limit", "1", "--data", data)
    assert listed[0]["query"] in shown.out
    assert listed[1]["query"] not in shown.out
    assert "--limit" in shown.err
    assert Run("pool", "gaps", "tickets", "--below", "-1", "--data", data, "--json").json == []
    assert Run("pool", "gaps", "tickets", "--below", "2", "--data", data).code == 2
    assert Run("pool", "gaps", "absent", "--data", data).code == 1


def test_a_gap_without_its_query_is_listed_all_the_same(data):
    with kshot.LocalClient(data) as client:
        client.update_pool("tickets", store_queries="none")
        client.select("tickets", "zyxwv", durable=True)
    assert "(not kept)" in Run("pool", "gaps", "tickets", "--data", data).out


def test_a_filter_narrows_the_selection(data):
    condition = '{"field": "metadata.lang", "eq": "en"}'
    run = Run("select", "tickets", "parcel", "--filter", condition, "--json", "--data", data)
    assert [shown["id"] for shown in run.json["demonstrations"]] == ["t1"]
    wrong = Run("select", "tickets", "parcel", "--filter", '{"field": "lang"}', "--data", data)
    assert wrong.code == 1
    assert "a filter looks like" in wrong.err


def test_a_rendered_prompt_is_printed_as_it_is(data):
    run = Run("select", "tickets", "is it lost", "-k", "1", "-m", "similarity", "--render", "--data", data)
    with kshot.LocalClient(data) as client:
        expected = client.select("tickets", "is it lost", k=1, method="similarity").text()
    assert run.out == expected + "\n"
    as_json = Run("select", "tickets", "is it lost", "-k", "1", "--render", "--json", "--data", data)
    assert as_json.json["text"].endswith("Input: is it lost\nOutput:")


def test_the_methods_are_listed_with_their_parameters(data):
    shown = Run("selectors", "--data", data)
    assert "mmr" in shown.out
    assert "diversity=0.1" in shown.out
    assert "similarity" in [info["name"] for info in Run("selectors", "--json", "--data", data).json]


def test_an_exported_pool_is_imported_whole(data):
    exported = Run("pool", "export", "tickets", "-o", "out.jsonl", "--data", data)
    assert exported.code == 0
    header, *lines = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(header)["kshot_pool"]["settings"] == {
        "embedder": {"type": "hashing"},
        "select": {"k": 3},
        "retention_days": 7,
    }
    defaults = {"status": "approved"}
    assert [json.loads(line) for line in lines] == [{**defaults, **row} for row in ROWS]
    imported = Run("pool", "import", "out.jsonl", "--name", "copy", "--data", data)
    assert imported.out == "pool copy: 4 stored (4 new, 0 updated, 0 unchanged), 0 rejected\n"
    with kshot.LocalClient(data) as client:
        assert client.get_pool("copy").settings == client.get_pool("tickets").settings
        volatile = {"added_in", "created_at", "updated_at"}
        first, second = (
            [example.model_dump(exclude=volatile) for example in client.list_examples(name)]
            for name in ("tickets", "copy")
        )
    assert first == second


def test_the_callers_own_vectors_survive_an_export(tmp_path):
    data = tmp_path / "d"
    spec = '{"type": "external", "dimension": 2}'
    assert Run("pool", "create", "own", "--embedder", spec, "--data", data).code == 0
    Path("own.jsonl").write_text('{"id": "a", "inputs": "x", "outputs": "y", "vector": [3.0, 4.0]}\n')
    assert Run("ingest", "own.jsonl", "--pool", "own", "--data", data).code == 0
    assert Run("pool", "export", "own", "-o", "out.jsonl", "--data", data).code == 0
    row = json.loads(Path("out.jsonl").read_text(encoding="utf-8").splitlines()[1])
    assert row["vector"] == pytest.approx([0.6, 0.8])
    assert Run("pool", "import", "out.jsonl", "--name", "copy", "--data", data).code == 0
    with kshot.LocalClient(data) as client:
        assert client.get_example("copy", "a").vector == row["vector"]


def test_an_export_may_go_to_stdout(data):
    run = Run("pool", "export", "tickets", "-o", "-", "--data", data)
    assert len(run.out.splitlines()) == 5
    assert run.err == "4 examples of pool tickets written to -\n"


def test_an_interrupted_export_leaves_no_file(data):
    assert Run("pool", "export", "absent", "-o", "out.jsonl", "--data", data).code == 1
    assert not Path("out.jsonl").exists()


def test_an_import_names_bad_rows_by_the_line_of_the_file(data):
    header = '{"kshot_pool": {"name": "copy", "settings": {"embedder": {"type": "hashing"}}}}'
    Path("in.jsonl").write_text(f'{header}\n{{"inputs": "a"}}\n{{"inputs": ""}}\n', encoding="utf-8")
    run = Run("pool", "import", "in.jsonl", "--data", data)
    assert run.code == 1
    assert "line 3: /inputs is empty" in run.err


@pytest.mark.parametrize("line", ["", "{broken", "[]", '{"inputs": "a"}', '{"kshot_pool": {"name": "x"}}'])
def test_a_file_without_a_header_is_no_export(data, line):
    Path("in.jsonl").write_text(line + "\n", encoding="utf-8")
    run = Run("pool", "import", "in.jsonl", "--data", data)
    assert run.code == 1
    assert "kshot ingest" in run.err


def test_a_healthy_folder_passes_the_doctor(data):
    run = Run("doctor", "--data", data, "--json")
    outcomes = {check["name"]: check["outcome"] for check in run.json["checks"]}
    assert (run.code, run.json["ok"]) == (0, True)
    assert outcomes["segments"] == outcomes["data folder"] == outcomes["base"] == "ok"
    assert outcomes["server"] == "skipped"
    assert "segments" in Run("doctor", "--data", data).out


def test_the_doctor_finds_a_damaged_segment_and_leaves_it_alone(data):
    vectors = next(data.glob("pools/**/vectors.npy"))
    damaged = bytearray(vectors.read_bytes())
    damaged[-1] ^= 1
    vectors.write_bytes(damaged)
    run = Run("doctor", "--data", data)
    assert run.code == 1
    assert "vectors fails its checksum" in run.out
    assert vectors.read_bytes() == damaged


def test_the_doctor_names_a_server_that_does_not_answer():
    run = Run("doctor", "--url", "http://127.0.0.1:9", "--json")
    checks = {check["name"]: check for check in run.json["checks"]}
    assert run.code == 1
    assert checks["server"]["outcome"] == "failed"
    assert "http://127.0.0.1:9" in checks["server"]["detail"]


def test_the_doctor_finds_a_folder_that_cannot_be_one():
    Path("file").write_text("", encoding="utf-8")
    assert "is no folder" in Run("doctor", "--data", "file/data").out
