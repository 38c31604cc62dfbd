"""Settings come from the environment, are checked, and keep their secrets."""

from pathlib import Path

import pytest

from kshot.errors import InvalidInput
from kshot.server.settings import Settings, is_loopback, unknown_variables, variables


def test_the_defaults_are_a_server_for_this_machine():
    settings = Settings.from_env({})
    assert (settings.host, settings.port, settings.api_key) == ("127.0.0.1", 8080, None)
    assert settings.data_dir == Path("kshot-data")
    assert settings.store_url == "sqlite:///kshot-data/store.sqlite"
    assert settings.max_body_bytes == 64 * 1024 * 1024
    assert not settings.is_public


def test_every_setting_has_a_variable():
    environ = {
        "KSHOT_DATA": "/srv/kshot",
        "KSHOT_DATABASE_URL": "postgresql+psycopg://kshot:pw@db/kshot",
        "KSHOT_API_KEY": "secret",
        "KSHOT_HOST": "0.0.0.0",
        "KSHOT_PORT": "9000",
        "KSHOT_CACHE_DIR": "/srv/cache",
        "KSHOT_THREADS": "3",
        "KSHOT_MAX_BODY_BYTES": "2048",
        "KSHOT_MAX_LINE_BYTES": "2049",
        "KSHOT_QUERY_CACHE_BYTES": "0",
        "KSHOT_SELECT_CONCURRENCY": "2",
        "KSHOT_SELECT_QUEUE": "5",
        "KSHOT_SCORER_URL": "https://vllm.internal:8000/v1",
        "KSHOT_SCORER_MODEL": "smol",
        "KSHOT_SCORER_TOKENIZER": "/models/smol",
        "KSHOT_SCORER_KEY": "token",
        "KSHOT_SCORER_CACHE_SALT": "pepper",
        "KSHOT_SCORER_PRIORITY": "-3",
        "KSHOT_SCORER": "vllm",
        "KSHOT_SCORER_REQUIRED": "true",
        "KSHOT_SCORE_CACHE_BYTES": "0",
        "KSHOT_SCORE_CACHE_ROWS": "7",
        "KSHOT_SCORER_QUERY_TOKENS": "9",
        "KSHOT_LOG_LEVEL": "DEBUG",
        "KSHOT_LOG_FORMAT": "Console",
    }
    assert set(variables().values()) == set(environ)
    settings = Settings.from_env(environ)
    assert settings.data_dir == Path("/srv/kshot")
    assert settings.store_url == "postgresql+psycopg://kshot:pw@db/kshot"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "secret"
    assert (settings.port, settings.threads, settings.select_queue) == (9000, 3, 5)
    assert (settings.log_level, settings.log_format) == ("debug", "console")
    assert settings.is_public
    assert (settings.scorer_kind, settings.scorer_required, settings.score_cache_rows) == ("vllm", True, 7)
    assert (settings.scorer_query_tokens, settings.scorer_priority) == (9, -3)
    assert settings.scorer_cache_salt is not None
    assert settings.scorer_cache_salt.get_secret_value() == "pepper"


def test_a_scorer_is_of_vllm_where_only_its_address_is_given():
    assert Settings.from_env({}).scorer_kind == "none"
    assert Settings.from_env({}, scorer_url="http://127.0.0.1:8000/v1").scorer_kind == "vllm"
    off = Settings.from_env({"KSHOT_SCORER_URL": "http://127.0.0.1:8000/v1", "KSHOT_SCORER": "none"})
    assert off.scorer_kind == "none"
    local = Settings.from_env({"KSHOT_SCORER": "transformers", "KSHOT_SCORER_MODEL": "/models/smol"})
    assert local.scorer_kind == "transformers"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KSHOT_SCORER": "vllm"}, "KSHOT_SCORER needs KSHOT_SCORER_URL as well"),
        ({"KSHOT_SCORER": "transformers"}, "KSHOT_SCORER needs KSHOT_SCORER_MODEL as well"),
        ({"KSHOT_SCORER": "vllm_offline"}, "KSHOT_SCORER needs KSHOT_SCORER_MODEL as well"),
        ({"KSHOT_SCORER_PRIORITY": "high"}, "KSHOT_SCORER_PRIORITY"),
        ({"KSHOT_SCORER_REQUIRED": "1"}, "KSHOT_SCORER_REQUIRED is set, but no scorer is"),
        ({"KSHOT_SCORER_URL": "ftp://h"}, "KSHOT_SCORER_URL is not usable: an http or https URL"),
    ],
)
def test_a_scorer_that_cannot_be_is_refused(environ: dict[str, str], said: str):
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env(environ)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "url", ["http://u:the-password@h/v1", "http://h/v1?key=the-password", "the-password"]
)
def test_an_address_that_is_refused_is_not_repeated(url: str):
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env({"KSHOT_SCORER_URL": url, "KSHOT_SCORER_KEY": "the password"})
    assert "the-password" not in str(caught.value)
    assert "the password" not in str(caught.value)
    assert [item.pointer for item in caught.value.errors] == ["KSHOT_SCORER_URL", "KSHOT_SCORER_KEY"]


def test_an_override_wins_over_the_environment_unless_it_is_none():
    environ = {"KSHOT_PORT": "9000", "KSHOT_HOST": "::1"}
    settings = Settings.from_env(environ, port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "::1")


def test_an_empty_variable_counts_as_unset():
    assert Settings.from_env({"KSHOT_API_KEY": "", "KSHOT_PORT": ""}).api_key is None


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KSHOT_PORT": "web"}, "KSHOT_PORT received 'web', allowed an integer"),
        ({"KSHOT_PORT": "65536"}, "KSHOT_PORT received '65536', allowed <= 65535"),
        ({"KSHOT_THREADS": "0"}, "KSHOT_THREADS received '0', allowed >= 1"),
        ({"KSHOT_LOG_FORMAT": "xml"}, "KSHOT_LOG_FORMAT received 'xml', allowed 'json', 'console'"),
    ],
)
def test_a_refused_variable_is_named_with_what_it_may_hold(environ: dict[str, str], said: str):
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env(environ)
    assert said in caught.value.message


def test_a_refused_override_is_named_as_given():
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env({}, port=-1)
    assert caught.value.message == "settings: port received -1, allowed >= 0"


@pytest.mark.parametrize("key", ["two words", "tab\t", "ümlaut", " "])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str):
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env({"KSHOT_API_KEY": key})
    assert "KSHOT_API_KEY" in caught.value.message
    assert key not in caught.value.message or key == " "


def test_secrets_are_masked_wherever_settings_are_printed():
    settings = Settings(api_key="the-key", database_url="postgresql://u:the-password@h/d")  # type: ignore[arg-type]  # coerced
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "the-key" not in shown
        assert "the-password" not in shown


def test_settings_are_frozen_and_closed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1
    with pytest.raises(ValueError, match="extra"):
        Settings.model_validate({"prot": 1})


def test_a_misspelt_variable_is_noticed_and_the_clients_own_are_not():
    environ = {
        "KSHOT_DTA": "x",
        "KSHOT_BASE_URL": "http://x",
        "KSHOT_PORT": "1",
        "HOME": "/",
        "KSHOT_QQQQQQ": "",
    }
    assert unknown_variables(environ) == {"KSHOT_DTA": "KSHOT_DATA", "KSHOT_QQQQQQ": None}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST.", "a.localhost", "::1", "[::1]"]
)
def test_these_hosts_are_this_machine(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil", "127.0.0.1.nip.io", "", "kshot"]
)
def test_these_hosts_may_be_reached_by_others(host: str):
    assert not is_loopback(host)
