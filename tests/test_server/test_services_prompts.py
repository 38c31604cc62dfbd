"""The prompt registry over the real service."""

from typing import Any
from uuid import uuid4

import pytest

from tests.test_server.live import Live, pointers, the_problem


@pytest.fixture
def name() -> str:
    return f"prompt-{uuid4().hex}"


def created(live: Live, name: str, **body: Any) -> Any:
    response = live.http.post("/v1/prompts", json={"name": name, "template": "Say {{ word }}.", **body})
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/prompts/{name}"
    return response.json()


def added(live: Live, name: str, **body: Any) -> Any:
    response = live.http.post(f"/v1/prompts/{name}/versions", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def rendered(live: Live, name: str, **body: Any) -> Any:
    response = live.http.post(f"/v1/prompts/{name}/render", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_versions_are_added_and_never_changed(live: Live, name: str) -> None:
    first = created(live, name, labels=["production"], metadata={"by": "ann"})
    assert (first["version"], first["labels"], first["variables"]) == (1, ["production"], ["word"])
    second = added(live, name, template="Please say {{ word }} to {{ whom }}.", labels=["candidate"])
    assert (second["version"], second["variables"], second["unchanged"]) == (2, ["whom", "word"], False)
    again = added(live, name, template="Please say {{ word }} to {{ whom }}.")
    assert (again["version"], again["unchanged"], again["labels"]) == (2, True, ["candidate"])
    kept = live.http.get(f"/v1/prompts/{name}/versions/1").json()
    assert (kept["template"], kept["metadata"]) == ("Say {{ word }}.", {"by": "ann"})
    listed = live.http.get(f"/v1/prompts/{name}/versions").json()["data"]
    assert [one["version"] for one in listed] == [2, 1]
    info = live.http.get(f"/v1/prompts/{name}").json()
    assert (info["latest_version"], info["labels"]) == (2, {"candidate": 2, "production": 1})


def test_a_label_moves_and_whoever_asks_for_it_gets_the_other_version(live: Live, name: str) -> None:
    created(live, name, labels=["production"])
    added(live, name, template="Shout {{ word }}!")
    assert rendered(live, name, variables={"word": "hi"})["text"] == "Say hi."
    assert rendered(live, name, version=2, variables={"word": "hi"})["text"] == "Shout hi!"
    moved = live.http.put(f"/v1/prompts/{name}/labels/production", json={"version": 2})
    assert moved.json()["labels"] == ["production"]
    assert rendered(live, name, variables={"word": "hi"})["version"] == 2
    assert live.http.delete(f"/v1/prompts/{name}/labels/production").status_code == 204
    # Without the label the newest is meant.
    assert rendered(live, name, variables={"word": "hi"})["version"] == 2
    problem = the_problem(live.http.delete(f"/v1/prompts/{name}/labels/production"), 404)
    assert problem["code"] == "prompt_not_found"


def test_system_prompts_and_turns(live: Live, name: str) -> None:
    created(live, name, system="You are {{ role }}.")
    messages = rendered(live, name, variables={"word": "hi", "role": "a clerk"})["messages"]
    assert messages == [
        {"role": "system", "content": "You are a clerk."},
        {"role": "user", "content": "Say hi."},
    ]
    turns = [{"role": "user", "content": "{{ a }}?"}, {"role": "assistant", "content": "yes"}]
    added(live, name, messages=turns)
    reply = rendered(live, name, variables={"a": 1})
    assert [one["content"] for one in reply["messages"]] == ["1?", "yes"]
    assert reply["text"] == "1?\n\nyes"


def test_what_is_missing_is_named(live: Live, name: str) -> None:
    created(live, name)
    response = live.http.post(f"/v1/prompts/{name}/render", json={"variables": {"wrod": 1}})
    problem = the_problem(response)
    assert problem["code"] == "invalid_template"
    assert "uses word; received variables: wrod" in problem["detail"]
    assert pointers(problem) == ["/variables/word"]


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"template": "{{ a"}, "/template", "line 1"),
        ({"template": "{% macro x() %}{% endmacro %}"}, "/template", "not allowed"),
        ({"template": "x", "system": "{{ a.__class__() }} {% include 'x' %}"}, "/system", "not allowed"),
        ({"messages": [{"role": "user", "content": "{{ a | nope }}"}]}, "/messages/0/content", "filter"),
        ({}, "", "exactly one of template and messages"),
        ({"template": "x", "messages": [{"role": "user", "content": "y"}]}, "", "exactly one"),
        ({"template": "x", "labels": ["Not A Label"]}, "/labels/0", "allowed lower-case letters"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused_where_it_is_wrong(
    live: Live, name: str, body: dict[str, Any], pointer: str, says: str
) -> None:
    problem = the_problem(live.http.post("/v1/prompts", json={"name": name, **body}))
    assert any(one.startswith(pointer) for one in pointers(problem))
    assert says in problem["detail"]
    assert live.http.get(f"/v1/prompts/{name}").status_code == 404


def test_what_is_not_there_says_what_is(live: Live, name: str) -> None:
    created(live, name, labels=["production"])
    taken = the_problem(live.http.post("/v1/prompts", json={"name": name, "template": "x"}), 409)
    assert taken["code"] == "prompt_exists"
    for path, says in [("versions/7", "it has 1 to 1"), ("versions/candidate", "its labels: production")]:
        problem = the_problem(live.http.get(f"/v1/prompts/{name}/{path}"), 404)
        assert problem["code"] == "prompt_not_found"
        assert says in problem["detail"]
    moved = live.http.put(f"/v1/prompts/{name}/labels/candidate", json={"version": 3})
    assert "no version 3" in the_problem(moved, 404)["detail"]
    assert live.http.get(f"/v1/prompts/{name}/versions/latest").json()["version"] == 1


def test_listings_come_in_pages_and_deleting_removes_all_versions(live: Live, name: str) -> None:
    names = [f"{name}-{letter}" for letter in "abc"]
    for one in names:
        created(live, one)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = live.http.get("/v1/prompts", params={"limit": 2, **cursor}).json()
        found += [one["name"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [one for one in found if one.startswith(name)] == names
    assert live.http.delete(f"/v1/prompts/{names[0]}").status_code == 204
    assert live.http.get(f"/v1/prompts/{names[0]}/versions").status_code == 404
    assert created(live, names[0])["version"] == 1
