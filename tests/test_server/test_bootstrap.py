"""One process owns a data folder, and gives it back whatever happens."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kshot.errors import DataFolderLocked
from kshot.server.bootstrap import build_app
from kshot.server.data_folder import DataFolderLock, Owner, read_owner, write_owner
from kshot.server.metrics import Metrics
from kshot.server.settings import Settings
from tests.test_server.stubs import StubServices


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "new" / "data")


def stub(_settings: Settings, _metrics: Metrics) -> StubServices:
    return StubServices()


async def test_the_folder_is_owned_for_the_life_of_the_app(settings: Settings):
    app = build_app(settings, build=stub)
    async with app.router.lifespan_context(app):
        with pytest.raises(DataFolderLocked):
            build_app(settings, build=stub)
        owner = read_owner(settings.data_dir)
        assert owner is not None
        assert owner.url is None
    assert read_owner(settings.data_dir) is None
    again = build_app(settings, build=stub)
    async with again.router.lifespan_context(again):
        pass


def test_a_locked_folder_names_its_owner(settings: Settings):
    lock = DataFolderLock(settings.data_dir)
    lock.acquire()
    write_owner(settings.data_dir, "http://127.0.0.1:8080")
    owner = read_owner(settings.data_dir)
    assert owner is not None
    with pytest.raises(DataFolderLocked) as caught:
        build_app(settings, build=stub)
    assert f"process {owner.pid} at http://127.0.0.1:8080" in caught.value.message
    lock.release()


def test_services_that_cannot_be_built_free_the_folder(settings: Settings):
    def fail(_settings: Settings, _metrics: Metrics) -> StubServices:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        build_app(settings, build=fail)
    DataFolderLock(settings.data_dir).acquire()


async def test_services_that_cannot_start_free_the_folder(settings: Settings):
    def failing(_settings: Settings, _metrics: Metrics) -> StubServices:
        return StubServices(start_error=RuntimeError("no"))

    app = build_app(settings, build=failing)
    with pytest.raises(RuntimeError):
        async with app.router.lifespan_context(app):
            pass
    DataFolderLock(settings.data_dir).acquire()


def test_another_thread_may_give_the_folder_back(settings: Settings):
    lock = DataFolderLock(settings.data_dir)
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    DataFolderLock(settings.data_dir).acquire()


def test_releasing_twice_leaves_the_next_owner_alone(settings: Settings):
    first, second = DataFolderLock(settings.data_dir), DataFolderLock(settings.data_dir)
    first.acquire()
    first.release()
    second.acquire()
    first.release()
    assert read_owner(settings.data_dir) is not None
    with pytest.raises(DataFolderLocked):
        first.acquire()


def test_the_lock_of_a_killed_process_is_free(settings: Settings):
    script = (
        "import os, pathlib, sys\n"
        "from kshot.server.data_folder import DataFolderLock\n"
        "DataFolderLock(pathlib.Path(sys.argv[1])).acquire()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(settings.data_dir)], check=False)
    assert ended.returncode == -9
    stale = read_owner(settings.data_dir)
    assert stale is not None
    DataFolderLock(settings.data_dir).acquire()
    assert read_owner(settings.data_dir) != stale


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "nonsense", "\ufffd"])
def test_a_broken_owner_file_is_no_owner(text: str, tmp_path: Path):
    (tmp_path / "owner.json").write_text(text, "utf-8")
    assert read_owner(tmp_path) is None


def test_the_owner_file_is_written_whole(tmp_path: Path):
    write_owner(tmp_path, "http://127.0.0.1:1")
    found = read_owner(tmp_path)
    assert isinstance(found, Owner)
    assert [path.name for path in tmp_path.iterdir()] == ["owner.json"]
