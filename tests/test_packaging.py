"""The wheel: what is in it, what it asks for, and that it works where only it is installed."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import kshot

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT],
        capture_output=True,
        timeout=600,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a folder, as an installer would leave it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(unpacked: Path, code: str) -> str:
    """Run a program that sees the unpacked wheel before, or instead of, the working copy."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked), "PATH": "", "HOME": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_the_wheel_holds_the_whole_package_and_nothing_else(unpacked):
    source = ROOT / "src"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    packed = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*.py")}
    assert packed == modules
    assert {path.name for path in unpacked.iterdir()} == {"kshot", f"kshot-{kshot.__version__}.dist-info"}


def test_the_wheel_is_typed_and_brings_the_example_files(unpacked):
    assert (unpacked / "kshot" / "py.typed").is_file()
    for name in ("support_tickets.jsonl", "support_queries.jsonl"):
        packed = unpacked / "kshot" / "clients" / "cli" / "data" / name
        assert packed.read_bytes() == (ROOT / "examples" / name).read_bytes()


def test_the_base_requirements_are_four(unpacked):
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    required = Parser().parsestr(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist") or []
    base = sorted(name.split(">")[0].split("<")[0] for name in required if "extra ==" not in name)
    assert base == ["httpx", "pydantic", "rich", "typer"]


def test_the_installed_package_finds_its_own_examples(unpacked):
    code = "import kshot.clients.cli.samples as s; print(s.__file__); print(s.sample_path(s.TICKETS))"
    module, path = run(unpacked, code).splitlines()
    assert Path(module).is_relative_to(unpacked)
    assert Path(path).is_relative_to(unpacked)


def test_the_command_is_an_entry_point(unpacked):
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "kshot = kshot.clients.cli.main:run" in entry_points.read_text(encoding="utf-8")
    assert run(
        unpacked, "import sys; sys.argv = ['kshot', '--version']; import kshot.__main__ as m; m.run()"
    ) == (f"kshot {kshot.__version__}\n")
