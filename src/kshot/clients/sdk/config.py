"""Where the server is and who asks: arguments first, then the environment, then the default."""

import os
import platform
from dataclasses import dataclass, field

import httpx

from kshot import __version__
from kshot.errors import InvalidParameter

DEFAULT_BASE_URL = "http://127.0.0.1:8080"
BASE_URL_VARIABLE = "KSHOT_BASE_URL"
API_KEY_VARIABLE = "KSHOT_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address and the key that opens it; the key is never shown."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> "Target":
        """Complete what is not given from ``KSHOT_BASE_URL`` and ``KSHOT_API_KEY``.

        Raises
        ------
        InvalidParameter
            The address is no http(s) URL, or the key holds characters that no header may.
        """
        url = base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
        key = api_key or os.environ.get(API_KEY_VARIABLE) or None
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidParameter(f"base_url is no URL: {error}") from error
        if parsed.userinfo:
            raise InvalidParameter("base_url holds a user name or password; kshot takes an api_key instead")
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InvalidParameter(f"base_url is {url!r}, wanted one like {DEFAULT_BASE_URL}")
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise InvalidParameter("api_key holds a space or a character that is not printable ASCII")
        return cls(url, key)

    @property
    def may_use_proxy(self) -> bool:
        """Whether a proxy of the environment applies: it cannot reach this machine's own addresses."""
        host = httpx.URL(self.base_url).host
        return host not in {"localhost", "::1"} and not host.startswith("127.")

    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        headers = {"User-Agent": f"kshot/{__version__} python/{platform.python_version()}"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers
