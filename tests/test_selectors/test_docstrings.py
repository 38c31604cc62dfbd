"""Examples in docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import kshot.selectors

MODULES = [module.name for module in pkgutil.walk_packages(kshot.selectors.__path__, "kshot.selectors.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    modules = [importlib.import_module(name) for name in MODULES]
    assert (
        sum(bool(test.examples) for module in modules for test in doctest.DocTestFinder().find(module)) >= 6
    )
