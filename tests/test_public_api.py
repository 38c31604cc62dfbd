"""What ``import kshot`` gives: a short list of names, each imported when it is first used."""

import importlib
import json
import re
import subprocess
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType

import pytest

import kshot

PUBLIC = [
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


def modules_after(program: str) -> set[str]:
    """Top-level names in `sys.modules` after a program has run in an interpreter of its own."""
    code = textwrap.dedent(program) + "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def distributions_of(names: set[str]) -> set[str]:
    """Distributions that modules belong to; those of the interpreter and of its start-up have none."""
    known = packages_distributions()
    started = modules_after("")
    outside = {name for name in names - started if not name.startswith("_sysconfigdata")}
    outside -= {*sys.stdlib_module_names, "kshot"}
    return {normalised(distribution) for name in outside for distribution in known.get(name, [name])}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def base_distributions() -> set[str]:
    """What ``pip install kshot`` installs on this platform: the base requirements and theirs."""
    found: set[str] = set()
    waiting = ["kshot"]
    while waiting:
        for requirement in required_by(waiting.pop()):
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert match is not None
            name = normalised(match.group())
            if "extra ==" not in requirement and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def required_by(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:  # of another platform or Python
        return []


def test_the_public_names_are_listed_sorted_and_exist():
    assert kshot.__all__ == PUBLIC == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(kshot, name) is not None
    assert set(PUBLIC) <= set(dir(kshot))


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"__version__", "errors", "selectors"}))
def test_a_public_class_is_the_one_of_its_module(name):
    cls = getattr(kshot, name)
    assert getattr(importlib.import_module(cls.__module__), name) is cls


@pytest.mark.parametrize("package", ["kshot.selectors", "kshot.selectors.annotation"])
def test_no_module_hides_a_function_of_the_same_name(package):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if isinstance(getattr(module, name), ModuleType)] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kshot' has no attribute 'Cleint'"):
        kshot.Cleint  # noqa: B018  (the access is the test)


def test_the_version_is_that_of_the_distribution():
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{kshot.__version__}"' in pyproject


def test_importing_kshot_imports_nothing_of_others():
    assert distributions_of(modules_after("import kshot\nkshot.__version__")) == set()


@pytest.mark.parametrize(
    "program",
    [
        "import kshot\nkshot.Client, kshot.AsyncClient, kshot.LocalClient, kshot.Selection, kshot.ExampleIn",
        "import kshot.clients.cli.main",
        """
        import kshot
        client = kshot.Client("http://127.0.0.1:9", max_retries=0, fallback=[{"inputs": "a", "outputs": "b"}])
        assert client.select("tickets", "q").is_fallback
        """,
    ],
)
def test_sdk_and_command_line_import_base_requirements_only(program):
    used = distributions_of(modules_after(program))
    assert {"httpx", "pydantic"} <= used
    # httpx imports click for its own command line, if it happens to be there.
    assert used - {"click"} <= base_distributions()
    assert base_distributions().isdisjoint({"numpy", "fastapi", "jinja2", "sqlalchemy", "starlette"})


def test_without_the_server_extra_the_install_line_is_told():
    program = """
        import sys
        sys.modules["fastapi"] = None
        import kshot
        try:
            kshot.LocalClient("/nonexistent")
        except kshot.errors.MissingDependency as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == 'LocalClient needs fastapi, which is not installed: pip install "kshot[server]"\n'
