import builtins
import sqlite3

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from kshot.errors import InvalidInput, MissingDependency, StoreCorrupt, Unavailable
from kshot.index.store import Store
from kshot.index.store.dialects import parse_url
from kshot.index.store.schema import HEAD, VERSION_TABLE, metadata
from kshot.records import NewExample
from tests.test_index.test_store.cases import write


@pytest.fixture
def engine(store_url):
    opened = create_engine(parse_url(store_url)[0])
    yield opened
    opened.dispose()


@pytest.fixture
def config():
    made = Config()
    made.set_main_option("script_location", "kshot.index.store:migrations")
    return made


def migrate(config, engine, revision, run):
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        run(config, revision)


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return compare_metadata(context, metadata)


@pytest.mark.usefixtures("store")
def test_a_fresh_store_has_the_tables_that_the_code_knows(engine):
    assert differences(engine) == []


def test_every_migration_can_be_run_from_the_first_and_undone(config, engine):
    migrate(config, engine, "head", command.upgrade)
    assert differences(engine) == []
    migrate(config, engine, "base", command.downgrade)
    assert inspect(engine).get_table_names() == [VERSION_TABLE]


def test_an_older_schema_is_upgraded_when_the_store_is_opened(config, engine, store_url):
    migrate(config, engine, "base", command.stamp)
    with Store(store_url) as store:
        assert store.list_pools() == []
    assert differences(engine) == []


def test_selections_of_the_first_schema_are_read_by_this_one(config, engine, store_url):
    migrate(config, engine, "0001", command.upgrade)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO pools (id, name, settings, version, created_at, updated_at) "
                "VALUES (1, 'tickets', '{}', 0, '2031-05-06 12:00:00+00:00', '2031-05-06 12:00:00+00:00')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO selections (id, pool_id, pool_version, created_at, method, request, "
                "demonstrations, abstained) "
                "VALUES ('old', 1, 3, '2031-05-06 12:00:00.000000', 'mmr', '{}', '[]', false)"
            )
        )
    with Store(store_url) as store:
        old = store.get_selection("old")
        assert (old.method, old.best_similarity) == ("mmr", None)
        assert store.list_gaps(1, below=1.0, since=old.created_at) == []
        assert store.count_selections(1, since=old.created_at) == 1


def test_the_code_knows_the_newest_revision(config):
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_reopened_store_holds_what_it_held(store, pool, store_url):
    write(store, pool.id, NewExample(id="a", inputs="x"))
    pool = store.get_pool("tickets")
    store.close()
    with Store(store_url) as reopened:
        assert reopened.get_pool("tickets") == pool
        assert [e.id for e in reopened.iterate_live(pool.id)] == ["a"]


def test_a_schema_of_a_newer_kshot_is_refused_with_both_revisions(store, store_url, engine):
    store.close()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreCorrupt, match=f"'9999', this kshot knows up to '{HEAD}'.*upgrade kshot"):
        Store(store_url)


def test_another_programs_database_is_refused_and_left_alone(store_url, engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (id INTEGER)"))
    with pytest.raises(StoreCorrupt, match="invoices"):
        Store(store_url)
    assert inspect(engine).get_table_names() == ["invoices"]


@pytest.mark.parametrize(
    "body", [b"not a database, but a text" * 100, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused(tmp_path, body):
    path = tmp_path / "store.sqlite"
    path.write_bytes(body)
    with pytest.raises(StoreCorrupt, match="cannot be read as a kshot store"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == body


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_damage_found_while_reading_is_said_to_be_damage(store, pool, store_url, tmp_path):
    write(store, pool.id, *(NewExample(id=str(i), inputs="x" * 500) for i in range(500)))
    store.close()
    path = tmp_path / "store.sqlite"
    body = bytearray(path.read_bytes())
    body[60_000:-10_000] = b"\xa5" * (len(body) - 70_000)
    path.write_bytes(body)

    with pytest.raises(StoreCorrupt, match="malformed"), Store(store_url) as damaged:
        list(damaged.iterate_live(pool.id))


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="unable to open"):
        Store(f"sqlite:///{tmp_path}/missing folder/store.sqlite")


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_file_locked_by_another_process_is_unavailable(store, pool, tmp_path):
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        write(store, pool.id, NewExample(id="a", inputs="x"))
    assert store.count_live(pool.id) == 0, "readers go on"
    other.execute("ROLLBACK")
    other.close()
    assert write(store, pool.id, NewExample(id="a", inputs="x")).version == 1


@pytest.mark.component
def test_a_database_server_that_is_not_there_is_unavailable():
    with pytest.raises(Unavailable, match="does not answer"):
        Store("postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root@host/db", "'mysql', wanted sqlite or postgresql"),
        ("store.sqlite", "malformed"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url, message):
    with pytest.raises(InvalidInput, match=message):
        Store(url)


def test_a_malformed_url_is_not_repeated():
    with pytest.raises(InvalidInput) as caught:
        Store("postgresql//user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r'pip install "kshot\[postgres\]"'):
        Store("postgresql://host/db")


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_acknowledged_writes_wait_for_the_disk(store):
    with store._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_a_store_that_is_current_opens_without_alembic(store, store_url, monkeypatch):
    store.close()
    plain_import = builtins.__import__

    def without_alembic(name, *args, **kwargs):
        assert not name.startswith("alembic"), name
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_alembic)
    Store(store_url).close()


def test_no_content_is_in_the_message_of_a_database_error(store, pool):
    with store._engine.begin() as connection:
        connection.execute(text("DROP TABLE examples"))
    with pytest.raises(Exception, match="examples") as caught:
        write(store, pool.id, NewExample(id="secret-id", inputs="secret-inputs"))
    assert "secret" not in str(caught.value)
