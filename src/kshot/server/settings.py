"""What an operator may set, and the only place that reads the environment."""

import ipaddress
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from kshot.errors import FieldError, InvalidInput
from kshot.server.validation import field_errors

DATABASE_FILE = "store.sqlite"
_PREFIX = "KSHOT_"
_FIELD_TO_VARIABLE = {"data_dir": "KSHOT_DATA"}
_SECRET_TO_MESSAGE = {
    **dict.fromkeys(
        ("api_key", "database_url", "scorer_key"), "is not usable: printable ASCII without spaces"
    ),
    "scorer_url": "is not usable: an http or https URL of host, port and path only",
}
"""What is said of settings that may hold a secret, instead of quoting them."""
_OTHER_VARIABLES = {"KSHOT_BASE_URL", "KSHOT_CACHE", "KSHOT_TEST_DATA", "KSHOT_TEST_FULL"}
"""Read by the SDK, the embedders and the tests."""
EMBEDDER_KEY = "KSHOT_EMBEDDER_KEY"
"""Keys of embedding endpoints, by names that pools refer to."""


def _available_threads() -> int:
    # A container's CPU set counts, not the machine's.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kshot"


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (a name or an address, no port) can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Settings(BaseModel):
    """Everything an operator may set; ``KSHOT_<NAME>`` in the environment, ``KSHOT_DATA`` for the folder.

    Secrets are masked wherever the settings are printed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(default=Path("kshot-data"), description="the data folder")
    database_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL of a PostgreSQL; default: SQLite inside the data folder"
    )
    api_key: SecretStr | None = Field(default=None, description="key that every request must carry")
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free port")
    cache_dir: Path = Field(default_factory=_cache_dir, description="models prepared for this machine")
    threads: int = Field(default_factory=_available_threads, ge=1, le=1024, description="for arithmetic")
    max_body_bytes: int = Field(default=64 * 2**20, ge=1024, description="of one body; NDJSON may be longer")
    max_line_bytes: int = Field(default=4 * 2**20, ge=1024, description="of one line of an NDJSON body")
    query_cache_bytes: int = Field(default=64 * 2**20, ge=0, description="for embedded queries; 0: no cache")
    select_concurrency: int = Field(default=4, ge=1, le=1024, description="selections computed at once")
    select_queue: int = Field(default=256, ge=0, description="selections waiting before 429 is answered")
    scorer_url: str | None = Field(
        default=None, max_length=2048, description="of a vLLM server, up to but without /completions"
    )
    scorer_model: str | None = Field(default=None, min_length=1, description="name or folder of the model")
    scorer_tokenizer: str | None = Field(
        default=None,
        min_length=1,
        description="tokenizer.json of the vLLM server's model, or its folder; spares a request per text",
    )
    scorer_key: SecretStr | None = Field(default=None, description="bearer token for the scorer's server")
    scorer_cache_salt: SecretStr | None = Field(
        default=None, description="shares the vLLM server's prefix cache only with requests of the same salt"
    )
    scorer_priority: int | None = Field(
        default=None,
        ge=-(2**31),
        lt=2**31,
        description="of requests to the vLLM server, lower ones first; it must schedule by priority",
    )
    scorer: Literal["none", "vllm", "vllm_offline", "transformers"] | None = Field(
        default=None, description="what gives likelihoods; default: vllm where scorer_url is set, else none"
    )
    scorer_required: bool = Field(default=False, description="whether the server is unready without a scorer")
    score_cache_bytes: int = Field(default=32 * 2**20, ge=0, description="for remembered likelihoods")
    score_cache_rows: int = Field(
        default=1_000_000, ge=0, description="likelihoods kept in the store, the newest; 0: none"
    )
    scorer_query_tokens: int = Field(
        default=100_000, ge=0, description="prompt tokens that one selection may ask the scorer for"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("api_key", "scorer_key")
    @classmethod
    def _can_travel_in_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else None
        if text is not None and not (text and text.isascii() and text.isprintable() and " " not in text):
            raise ValueError("must be printable ASCII without spaces")
        return key

    @field_validator("scorer_url")
    @classmethod
    def _is_a_plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            plain = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
        except ValueError:
            plain = False
        if (
            not plain
            or parts.username is not None
            or parts.password is not None
            or parts.query
            or parts.fragment
        ):
            raise ValueError("must be an http or https URL of host, port and path only")
        return url

    @field_validator("scorer")
    @classmethod
    def _has_what_it_needs(cls, kind: str | None, info: ValidationInfo) -> str | None:
        # A setting that was refused itself is not there.
        if kind == "vllm" and info.data.get("scorer_url", "refused") is None:
            raise ValueError("needs KSHOT_SCORER_URL as well")
        if kind in {"vllm_offline", "transformers"} and info.data.get("scorer_model", "refused") is None:
            raise ValueError("needs KSHOT_SCORER_MODEL as well")
        return kind

    @field_validator("scorer_required")
    @classmethod
    def _has_a_scorer(cls, required: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (pydantic's order)
        given = info.data.get("scorer"), info.data.get("scorer_url")
        if required and (given[0] == "none" or given == (None, None)):
            raise ValueError("is set, but no scorer is")
        return required

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the store; holds the password, so never print it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / DATABASE_FILE}"

    @property
    def scorer_kind(self) -> Literal["none", "vllm", "vllm_offline", "transformers"]:
        """What gives likelihoods."""
        return self.scorer or ("none" if self.scorer_url is None else "vllm")

    @property
    def is_public(self) -> bool:
        """True if other machines can reach the address that the server binds."""
        return not is_loopback(self.host)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Read ``KSHOT_*``; an override that is not None wins over the environment.

        Raises
        ------
        InvalidInput
            Names each refused variable or override, what it holds and what is allowed; secrets are not shown.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {
            name: environ[variable] for name, variable in variables().items() if environ.get(variable)
        }
        values.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            refused = [_named(item, overrides) for item in field_errors(error, cls, values)]
            text = "; ".join(f"{item.pointer} {item.message}" for item in refused)
            raise InvalidInput(f"settings: {text}", errors=refused) from None


def variables() -> dict[str, str]:
    """Map each setting to its environment variable."""
    return {name: _FIELD_TO_VARIABLE.get(name, _PREFIX + name.upper()) for name in Settings.model_fields}


def unknown_variables(environ: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """Map each ``KSHOT_*`` variable that nothing reads to the one that was probably meant."""
    known = {*variables().values(), *_OTHER_VARIABLES}
    names = os.environ if environ is None else environ
    unknown = (
        name
        for name in sorted(names)
        if name.startswith(_PREFIX) and not name.startswith(EMBEDDER_KEY) and name not in known
    )
    return {name: next(iter(get_close_matches(name, known, n=1)), None) for name in unknown}


def _named(item: FieldError, overrides: Mapping[str, Any]) -> FieldError:
    name = item.pointer.split("/")[1] if item.pointer else ""
    message = _SECRET_TO_MESSAGE.get(name, item.message)
    return FieldError(
        name if overrides.get(name) is not None else variables().get(name, name), message, item.code
    )
