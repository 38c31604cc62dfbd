"""Where algorithms are found by name."""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from kshot.errors import UnknownSelector
from kshot.selectors.base import Selector

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to classes, filled by one decorator line in each algorithm's own file.

    The first look-up imports every module of ``package`` and then the entry points of ``group``, so that a
    new file or an installed third-party package needs no edit anywhere else.
    """

    def __init__(self, package: str, group: str) -> None:
        self._package = package
        self._group = group
        self._name_to_class: dict[str, type[T]] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Register the decorated class under ``name``; a second class of that name is an error."""

        def add(cls: type[T]) -> type[T]:
            present = self._name_to_class.setdefault(name, cls)
            if present is not cls:
                raise ValueError(f"{name!r} is registered twice: {present!r} and {cls!r}")
            return cls

        return add

    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        self._scan()
        return tuple(sorted(self._name_to_class))

    def get(self, name: str) -> type[T]:
        """Return the class registered under ``name``.

        Raises
        ------
        UnknownSelector
            The message lists the names that exist.
        """
        self._scan()
        try:
            return self._name_to_class[name]
        except KeyError:
            raise UnknownSelector(f"method {name!r} is unknown; allowed: {', '.join(self.names())}") from None

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                importlib.import_module(f"{self._package}.{module.name}")
        for entry_point in entry_points(group=self._group):
            entry_point.load()
        self._scanned = True


SELECTORS: Registry[Selector] = Registry("kshot.selectors", group="kshot.selectors")
"""Every demonstration selector, by the name that a request's ``method`` uses."""
