"""A client in process over a folder: what it keeps, who owns it, which settings it takes."""

from pathlib import Path

import pytest

import kshot
from kshot.errors import InvalidInput
from tests.test_clients.sdk_tickets import TICKETS, ids_of


def test_a_data_folder_keeps_what_was_stored(tmp_path: Path):
    with kshot.LocalClient(tmp_path) as first:
        first.create_pool("kept", embedder="hashing")
        first.upsert("kept", TICKETS)
        before = ids_of(first.select("kept", "parcel", k=3))
    with kshot.LocalClient(tmp_path) as second:
        second.wait_indexed("kept", timeout_s=30)
        assert ids_of(second.select("kept", "parcel", k=3)) == before


def test_a_data_folder_has_one_owner_at_a_time(tmp_path: Path):
    with kshot.LocalClient(tmp_path), pytest.raises(kshot.errors.DataFolderLocked, match="process"):
        kshot.LocalClient(tmp_path)
    kshot.LocalClient(tmp_path).close()


def test_unknown_settings_of_a_local_client_are_refused_by_name(tmp_path: Path):
    with pytest.raises(InvalidInput, match="colour"):
        kshot.LocalClient(tmp_path, colour="red")
