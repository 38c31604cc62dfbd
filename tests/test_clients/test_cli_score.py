"""``kshot score`` and the scorer's line of ``kshot doctor``, against a server with a closed-form scorer."""

import json
import math
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

import kshot
from kshot.clients.cli import doctor, score
from kshot.clients.sdk.calls import scoring
from kshot.errors import InvalidInput, ScorerUnavailable
from kshot.schemas.scoring import AuditInfo, ScorerInfo
from kshot.server.bootstrap import build_app
from kshot.server.services import Services
from kshot.server.settings import Settings
from tests.test_clients.adapters import Awaited
from tests.test_clients.command_line import Run, forget_environment
from tests.test_server.closed_form import ClosedFormScorer, path_nats


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def scorer() -> ClosedFormScorer:
    return ClosedFormScorer()


@pytest.fixture(scope="module")
def scoring_url(tmp_path_factory, scorer) -> Iterator[str]:
    """A real server in a thread, on a free port."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("scoring"), scorer_url="http://127.0.0.1:9/v1")
    app = build_app(settings, build=lambda *made_of: Services(*made_of, make_scorer=lambda: scorer))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture(params=["http", "async"])
def client(request, scoring_url) -> Iterator[Any]:
    made: Any = kshot.Client(scoring_url)
    if request.param == "async":
        made = Awaited(kshot.AsyncClient(scoring_url))
    yield made
    made.close()


def test_a_client_scores_options_and_pairs(client):
    reply = client.score("c", ["a", "bb"], normalisation="pmi", unconditional_context=[1], per_token=True)
    expected = [sum(path_nats("c", one)) - sum(path_nats([1], one)) for one in ("a", "bb")]
    assert [one.score for one in reply.results] == expected
    assert reply.best == expected.index(max(expected))
    pairs = client.score(pairs=[("c", "a"), {"context": [1, 2], "completion": [3]}, ("c", "")])
    assert [one.sum_nats for one in pairs.results] == [
        sum(path_nats("c", "a")),
        path_nats([1, 2], [3])[0],
        None,
    ]
    assert pairs.results[2].error.code == "invalid_input"


def test_a_client_sees_what_the_scorer_can_do(client):
    info = client.scorer()
    assert (info.state, info.backend, info.modes) == ("ok", "closed-form", ["echo", "trie"])


def test_every_client_is_told_that_there_is_no_scorer(tmp_path):
    with kshot.LocalClient(tmp_path / "data") as local:
        assert local.scorer().state == "none"
        with pytest.raises(ScorerUnavailable, match="--scorer-url"):
            local.score("c", ["a"])


def test_what_is_no_pair_is_refused_before_it_is_sent():
    with pytest.raises(InvalidInput, match="is no pair"):
        scoring.score(pairs=["ab"])  # type: ignore[list-item]  # what is tested
    with pytest.raises(InvalidInput, match="options is one completion"):
        scoring.score("c", "ab")


def lines_of(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.out.splitlines()]


def test_a_file_is_scored_line_by_line(scoring_url, tmp_path):
    rows = [
        {"id": "q1", "context": "c", "completion": "a"},
        {"id": 2, "context": "d", "options": ["a", "bb", "Z"], "gold": 1},
        {"context": [1, 2], "completion": [3, 4]},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join([json.dumps(rows[0]), "", *map(json.dumps, rows[1:])]))
    run = Run("score", file, "--url", scoring_url, "--terminator", "newline", "--per-token")
    assert run.code == 0, run.err
    first, second, third = lines_of(run)
    assert (first["line"], first["id"], first["sum_nats"]) == (1, "q1", sum(path_nats("c", "a\n")))
    assert first["per_token_nats"] == path_nats("c", "a\n")
    sums = [sum(path_nats("d", one)) for one in ("a\n", "bb\n")]
    assert (second["line"], second["id"], second["best"]) == (3, 2, sums.index(max(sums)))
    assert [one.get("sum_nats") for one in second["results"]] == [*sums, None]
    assert second["results"][2]["ruled_out"]
    assert (third["line"], third["sum_nats"]) == (4, sum(path_nats([1, 2], [3, 4, 10])))
    assert "id" not in third


BAD = [
    b"{",
    b"[1]",
    b'{"context": "c"}',
    b'{"context": "c", "options": []}',
    b'{"context": "c", "options": "ab"}',
    b'{"context": "c", "completion": "a", "options": ["a"]}',
    b'{"context": "c", "completion": ""}',
    b'{"context": "c", "completion": "\\ud800"}',
    b'{"context": "c", "completion": "\\u0000"}',
    b'{"context": NaN, "completion": "a"}',
    b'{"context": "c", "completion": "\xff"}',
    b'{"context": "c", "options": ["", null, 5]}',
]


@pytest.mark.parametrize("size", [1, 3, 500])
def test_a_bad_line_stops_no_other(scoring_url, size):
    good = json.dumps({"context": "c", "completion": "\\u0000 is written so"}).encode()
    stdin = b"\n".join(line for bad in BAD for line in (bad, good))
    run = Run("score", "-", "--url", scoring_url, "--batch-size", size, stdin=stdin)
    assert run.code == 1
    lines = lines_of(run)
    assert [line["line"] for line in lines] == list(range(1, 2 * len(BAD) + 1))
    for bad, other in zip(lines[::2], lines[1::2], strict=True):
        assert "error" not in other
        assert other["sum_nats"] == sum(path_nats("c", "\\u0000 is written so"))
        if "results" in bad:
            assert bad["best"] is None
            assert [one["error"]["code"] for one in bad["results"]] == ["invalid_input"] * 3
        else:
            assert bad["error"]["code"] == "invalid_input"
    assert "line 1: is no JSON" in run.err
    (told,) = (line for line in run.err.splitlines() if line.startswith("warning: line 15: "))
    assert "surrogate" in told


def test_options_beyond_a_request_are_split_and_joined(scoring_url, tmp_path):
    file, to = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    options = [f"{i:03d}" for i in range(25)]
    file.write_text(json.dumps({"context": "c", "options": options}))
    run = Run(
        "score", file, "-o", to, "--url", scoring_url, "--batch-size", 10, "--normalisation", "per_byte"
    )
    assert (run.code, run.out) == (0, "")
    (line,) = map(json.loads, to.read_text().splitlines())
    expected = [sum(path_nats("c", one)) / 3 for one in options]
    assert [one["score"] for one in line["results"]] == expected
    assert line["best"] == expected.index(max(expected))


def line_of(number, completions, context="c"):
    pairs = [{"context": context, "completion": one} for one in completions]
    return score._Line(number, None, pairs, is_group=True)


def test_requests_are_cut_by_size_as_well():
    lines = [line_of(i, [str(i)], "c" * 1_500_000) for i in range(5)]
    assert [len(part) for part in score._requests(lines, 500)] == [2, 2, 1]
    assert [len(part) for part in score._requests(lines, 1)] == [1] * 5


def test_the_options_of_a_line_are_asked_together():
    lines = [line_of(i, "abcd") for i in range(5)]
    assert [[line.number for line in part] for part in score._requests(lines, 10)] == [[0, 1], [2, 3], [4]]
    assert [len(part) for part in score._requests(lines, 3)] == [1] * 5


@pytest.mark.parametrize("context", ["c" * 200_000, "c" * 300_000])
def test_a_long_context_is_sent_once_for_all_its_options(scoring_url, tmp_path, context):
    file = tmp_path / "in.jsonl"
    options = [str(i) for i in range(100)]
    good = {"context": "c", "completion": "a"}
    file.write_text("\n".join(map(json.dumps, ({"context": context, "options": options}, good))))
    run = Run("score", file, "--url", scoring_url, "--cut")
    first, second = lines_of(run)
    assert second["sum_nats"] == sum(path_nats("c", "a"))
    if len(context) > 262_144:
        assert {one["error"]["code"] for one in first["results"]} == {"invalid_input"}
    else:
        # The closed form's window is 100,000 tokens, one of them to be generated.
        kept = [context[: 99_999 - len(one)] for one in options]
        expected = [sum(path_nats(*pair)) for pair in zip(kept, options, strict=True)]
        assert [one["sum_nats"] for one in first["results"]] == expected


def test_contexts_of_parts_and_chats_and_labels_of_forms_are_scored(scoring_url, tmp_path):
    parts = {"instruction": "i", "demonstrations": ["x" * 60_000, "y" * 60_000], "query": "q"}
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    rows = [
        {"context": parts, "completion": "a"},
        {"context": chat, "options": [{"forms": ["a", "b", "a"]}, "c"]},
        {"context": {"parts": []}, "completion": "a"},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    run = Run("score", file, "--url", scoring_url, "--drop-demos")
    first, second, third = lines_of(run)
    assert (first["dropped_demonstrations"], first["dropped"], first["truncated"]) == (1, 60_000, True)
    assert first["sum_nats"] == sum(path_nats("i" + "y" * 60_000 + "q", "a"))
    label, plain = second["results"]
    forms = [path_nats("user:hi\n", one)[0] for one in "ab"]
    assert label["sum_nats"] == pytest.approx(math.log(sum(map(math.exp, forms))), abs=1e-12)
    assert [one["sum_nats"] for one in label["forms"]] == forms
    assert plain["sum_nats"] == path_nats("user:hi\n", "c")[0]
    assert third["error"]["code"] == "invalid_input"
    assert Run("score", file, "--url", scoring_url, "--drop-demos", "--cut").code == 2


def test_forms_count_towards_what_one_request_may_hold(scoring_url, tmp_path):
    """More of them than a server takes at once: over 120 lines, and over the 120 options of one."""
    label = {"forms": ["a", *(f"{i}" for i in range(89))]}
    rows: list[dict[str, Any]] = [*({"context": f"c{i % 3}", "completion": label} for i in range(120))]
    rows.append({"context": "c", "options": [label] * 120})
    # Too many for one label: it fails alone.
    rows.append({"context": "c", "options": [{"forms": ["a"] * 10_001}, "a"]})
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    *lines, group, last = lines_of(Run("score", file, "--url", scoring_url))
    assert [len(one["forms"]) for one in [*lines, *group["results"]]] == [90] * 240
    assert all(one["forms"][0]["sum_nats"] == path_nats("c", "a")[0] for one in group["results"])
    assert [one.get("error", {}).get("code") for one in last["results"]] == ["invalid_input", None]


def test_what_cannot_be_asked_is_wrong_usage(scoring_url, tmp_path):
    assert Run("score", tmp_path / "absent.jsonl", "--url", scoring_url).code == 2
    file = tmp_path / "in.jsonl"
    file.write_text("")
    assert Run("score", file, "--url", scoring_url, "--normalisation", "pmi").code == 2
    empty = Run("score", file, "--url", scoring_url)
    assert (empty.code, empty.out) == (0, "")
    file.write_text("{}")
    same = tmp_path / ".." / tmp_path.name / file.name
    assert Run("score", file, "--url", scoring_url, "-o", same).code == 2
    assert file.read_text() == "{}"


def test_without_a_scorer_the_command_says_what_to_do(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"context": "c", "completion": "a"}')
    run = Run("score", file, "--data", tmp_path / "data")
    assert run.code == 1
    assert "no scorer is configured" in run.err
    assert "hint: " in run.err


def test_the_doctor_looks_at_the_scorer(scoring_url):
    run = Run("doctor", "--url", scoring_url, "--json")
    (found,) = (one for one in run.json["checks"] if one["name"] == "likelihoods")
    assert found == {"name": "likelihoods", "outcome": "ok", "detail": "closed-form bytes: echo, trie"}


def test_the_doctor_tells_of_an_alarm():
    class Server:
        def scorer(self) -> ScorerInfo:
            audit = AuditInfo(checked=40, alarms=1, alarm_nats=0.31)
            return ScorerInfo(kind="vllm", state="ok", required=False, modes=["echo"], audit=audit)

    found = doctor._scorer(Server())  # type: ignore[arg-type]  # it asks for nothing else
    assert found.outcome == "ok"
    assert found.detail.endswith("; alarm: two ways to score differ by 0.31 nats per token")


def test_the_doctor_skips_a_scorer_that_nobody_configured(url):
    run = Run("doctor", "--url", url, "--json")
    (found,) = (one for one in run.json["checks"] if one["name"] == "likelihoods")
    assert found["outcome"] == "skipped"
