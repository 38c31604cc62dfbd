"""One surface: both clients have the same methods, parameters and docstrings."""

import collections.abc
import inspect
from typing import Any, get_args, get_origin

import httpx
import pytest

import kshot
from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.local import LocalClient
from kshot.errors import InvalidParameter
from tests.test_clients import replies

METHODS = [
    "activate",
    "add_prompt_version",
    "add_variant",
    "algorithms",
    "cancel_decision",
    "cancel_job",
    "cancel_plan",
    "close",
    "create_policy",
    "create_pool",
    "create_prompt",
    "decide",
    "declare_metric",
    "delete_decisions",
    "delete_example",
    "delete_examples",
    "delete_policy",
    "delete_pool",
    "delete_prompt",
    "evaluate_policy",
    "export_plan",
    "feedback",
    "feedback_batch",
    "flush_feedback",
    "gaps",
    "get_decision",
    "get_example",
    "get_job",
    "get_plan",
    "get_policy",
    "get_pool",
    "get_prompt",
    "get_selection",
    "import_answers",
    "label_prompt",
    "list_examples",
    "list_jobs",
    "list_metrics",
    "list_plans",
    "list_policies",
    "list_pools",
    "list_prompt_versions",
    "list_prompts",
    "measure_difficulty",
    "patch_example",
    "plan",
    "plan_items",
    "planners",
    "policy_report",
    "pool_stats",
    "ready",
    "render",
    "render_prompt",
    "report_served",
    "score",
    "scorer",
    "search",
    "select",
    "select_batch",
    "selectors",
    "tune_pool",
    "update_policy",
    "update_pool",
    "update_variant",
    "upsert",
    "upsert_ndjson",
    "utilities",
    "version",
    "wait_indexed",
    "wait_job",
    "wait_plan",
]


def public(cls: type[Any]) -> list[str]:
    return sorted(name for name in dir(cls) if not name.startswith("_"))


@pytest.mark.parametrize("cls", [Client, AsyncClient, LocalClient])
def test_every_client_has_the_same_methods(cls):
    assert public(cls) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_sync_and_async_methods_have_one_signature(name):
    sync = inspect.signature(getattr(Client, name))
    asynchronous = inspect.signature(getattr(AsyncClient, name))
    assert list(sync.parameters.values()) == list(asynchronous.parameters.values())
    if get_origin(sync.return_annotation) is collections.abc.Iterator:
        assert get_origin(asynchronous.return_annotation) is collections.abc.AsyncIterator
        assert get_args(sync.return_annotation) == get_args(asynchronous.return_annotation)
    else:
        assert sync.return_annotation == asynchronous.return_annotation
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented_under_its_own_name(name):
    for cls in (Client, AsyncClient):
        method = getattr(cls, name)
        assert method.__name__ == name
        assert len(method.__doc__) > 20


def test_the_clients_constructors_differ_in_the_transport_only():
    sync = dict(inspect.signature(Client).parameters)
    asynchronous = dict(inspect.signature(AsyncClient).parameters)
    assert sync.pop("transport").annotation == httpx.BaseTransport | None
    assert asynchronous.pop("transport").annotation == httpx.AsyncBaseTransport | None
    assert sync == asynchronous


def test_the_key_is_sent_but_never_shown():
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=replies.pool())

    with Client("http://kshot.test/", "s3cret", transport=httpx.MockTransport(handler)) as client:
        client.get_pool("tickets")
        assert repr(client) == "Client(base_url='http://kshot.test/', api_key='***')"
        assert "s3cret" not in repr(vars(client))
    assert seen[0].headers["Authorization"] == "Bearer s3cret"
    assert seen[0].headers["User-Agent"].startswith(f"kshot/{kshot.__version__} python/3")


def test_address_and_key_come_from_the_environment_unless_given(monkeypatch):
    monkeypatch.setenv("KSHOT_BASE_URL", "http://elsewhere:9")
    monkeypatch.setenv("KSHOT_API_KEY", "of-the-environment")
    assert repr(Client()) == "Client(base_url='http://elsewhere:9', api_key='***')"
    assert repr(Client("http://here:1")) == "Client(base_url='http://here:1', api_key='***')"
    monkeypatch.delenv("KSHOT_BASE_URL")
    monkeypatch.delenv("KSHOT_API_KEY")
    assert repr(AsyncClient()) == "AsyncClient(base_url='http://127.0.0.1:8080', api_key=None)"


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://[::1", "http://a:b@host"])
def test_an_address_that_is_no_http_url_is_refused(url):
    with pytest.raises(InvalidParameter, match="base_url"):
        Client(url)


def test_a_negative_number_of_retries_is_refused():
    with pytest.raises(InvalidParameter, match="max_retries is -1"):
        Client("http://kshot.test", max_retries=-1)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(key):
    with pytest.raises(InvalidParameter) as caught:
        Client("http://kshot.test", key)
    assert key not in caught.value.message


@pytest.mark.parametrize(
    ("url", "goes_by_proxy"),
    [
        ("http://localhost:1", False),
        ("http://127.0.0.9:1", False),
        ("http://[::1]:1", False),
        ("http://host:1", True),
    ],
)
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch, url, goes_by_proxy):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    for client in (Client(url), AsyncClient(url)):
        assert client._http.trust_env is goes_by_proxy


def test_a_path_prefix_of_the_address_is_kept():
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(200, json=replies.pool())

    Client("http://proxy.test/kshot", transport=httpx.MockTransport(handler)).get_pool("tickets")
    assert seen == ["/kshot/v1/pools/tickets"]


def test_listings_fetch_pages_as_they_are_needed():
    seen: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.url.params))
        if "cursor" in request.url.params:
            return httpx.Response(200, json={"data": [replies.pool("c")], "next_cursor": None})
        return httpx.Response(200, json={"data": [replies.pool("a"), replies.pool("b")], "next_cursor": "n"})

    pools = Client("http://kshot.test", transport=httpx.MockTransport(handler)).list_pools()
    assert seen == []
    assert [next(pools).name, next(pools).name] == ["a", "b"]
    assert seen == [{"limit": "500"}]
    assert [pool.name for pool in pools] == ["c"]
    assert seen == [{"limit": "500"}, {"limit": "500", "cursor": "n"}]


async def test_async_listings_do_the_same():
    def handler(request: httpx.Request) -> httpx.Response:
        if "cursor" in request.url.params:
            return httpx.Response(200, json={"data": [replies.pool("c")], "next_cursor": None})
        return httpx.Response(200, json={"data": [replies.pool("a")], "next_cursor": "n"})

    async with AsyncClient("http://kshot.test", transport=httpx.MockTransport(handler)) as client:
        assert [pool.name async for pool in client.list_pools()] == ["a", "c"]
