"""The shape of the code: layers, module sizes, module names."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src" / "kshot").rglob("*.py"))
SOURCES = sorted(
    path for folder in ("src", "tests", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py")
)
# Nested below kshot and never on sys.path itself; the name is the field's own.
ALLOWED_NAMES = {"selectors"}


def test_imports_point_down_only():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_shorter_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


def test_no_module_or_package_is_named_like_one_of_the_standard_library():
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}
    assert names & set(sys.stdlib_module_names) == ALLOWED_NAMES


def test_no_module_is_a_drawer_for_everything():
    assert {path.stem for path in MODULES}.isdisjoint(
        {"utils", "util", "helpers", "common_utils", "misc", "manager"}
    )


def test_every_test_folder_is_a_package():
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
