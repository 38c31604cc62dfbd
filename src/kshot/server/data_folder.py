"""One process owns a data folder: the lock, and who holds it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from kshot.errors import DataFolderLocked

LOCK_FILE = "lock"
OWNER_FILE = "owner.json"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns a data folder; ``url`` is None unless it serves HTTP."""

    pid: int
    url: str | None


def read_owner(data_dir: Path) -> Owner | None:
    """Return who wrote ``owner.json``; None if nobody did. It may be stale: only the lock is certain."""
    try:
        found = json.loads((data_dir / OWNER_FILE).read_text("utf-8"))
        return Owner(pid=int(found["pid"]), url=found.get("url"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_owner(data_dir: Path, url: str | None) -> None:
    """Say that this process owns the folder, and under which URL it serves."""
    draft = data_dir / f"{OWNER_FILE}.{os.getpid()}"
    draft.write_text(json.dumps({"pid": os.getpid(), "url": url}), "utf-8")
    draft.replace(data_dir / OWNER_FILE)


class DataFolderLock:
    """Exclusive ownership of a data folder, created if need be.

    The lock is the operating system's: it ends with the process, however that ends.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        # Released by the event loop's thread, which may not be the one that acquired it.
        self._lock = FileLock(data_dir / LOCK_FILE, timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the folder.

        Raises
        ------
        DataFolderLocked
            Another process, or another app in this one, has it; the message names it.
        """
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise DataFolderLocked(f"{self._data_dir} is in use by {self._describe_owner()}") from None
        write_owner(self._data_dir, None)

    def release(self) -> None:
        """Give the folder back; nothing happens if it is not held."""
        if self._lock.is_locked:
            (self._data_dir / OWNER_FILE).unlink(missing_ok=True)
            self._lock.release()

    def _describe_owner(self) -> str:
        owner = read_owner(self._data_dir)
        if owner is None:
            return "another process"
        return f"process {owner.pid}" + (f" at {owner.url}" if owner.url else ", which serves no URL")
