"""kshot serves few-shot demonstrations: the best labelled examples for each query.

Names are imported when they are first used, so that ``import kshot`` costs nothing and the command line stays
quick; the algorithms alone are in `kshot.selectors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kshot import errors, selectors
    from kshot.clients.sdk.async_client import AsyncClient
    from kshot.clients.sdk.client import Client
    from kshot.clients.sdk.decision import Decision
    from kshot.clients.sdk.local import LocalClient
    from kshot.clients.sdk.selection import Selection
    from kshot.errors import KshotError
    from kshot.schemas.examples import ExampleIn
    from kshot.schemas.selections import SelectRequest

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "Decision",
    "ExampleIn",
    "KshotError",
    "LocalClient",
    "SelectRequest",
    "Selection",
    "__version__",
    "errors",
    "selectors",
]

_NAME_TO_MODULE = {
    "AsyncClient": "kshot.clients.sdk.async_client",
    "Client": "kshot.clients.sdk.client",
    "Decision": "kshot.clients.sdk.decision",
    "ExampleIn": "kshot.schemas.examples",
    "KshotError": "kshot.errors",
    "LocalClient": "kshot.clients.sdk.local",
    "SelectRequest": "kshot.schemas.selections",
    "Selection": "kshot.clients.sdk.selection",
}
_SUBMODULES = {"errors", "selectors"}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"kshot.{name}")
    if name in _NAME_TO_MODULE:
        value = getattr(import_module(_NAME_TO_MODULE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'kshot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
