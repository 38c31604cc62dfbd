"""The scores that were used last, in memory, up to a number of bytes."""

from collections import OrderedDict

from kshot.records import ScoreRecord

RECORD_BYTES = 400
"""What a score takes in CPython, its key and its place included, without the values of its tokens."""
PER_TOKEN_BYTES = 32


class RecentScores:
    """Forgets what was not used for longest; of one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._key_to_record: OrderedDict[bytes, ScoreRecord] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._key_to_record)

    def get(self, key: bytes) -> ScoreRecord | None:
        """Return a score, now the one used last."""
        record = self._key_to_record.get(key)
        if record is not None:
            self._key_to_record.move_to_end(key)
        return record

    def put(self, record: ScoreRecord) -> None:
        """Keep a score in the place of the one with its key, if there is one."""
        replaced = self._key_to_record.pop(record.key, None)
        self._key_to_record[record.key] = record
        self.bytes += size_of(record) - (0 if replaced is None else size_of(replaced))
        while self.bytes > self._max_bytes:
            self.bytes -= size_of(self._key_to_record.popitem(last=False)[1])


def size_of(record: ScoreRecord) -> int:
    """Return about how many bytes a score takes."""
    return RECORD_BYTES + PER_TOKEN_BYTES * len(record.per_token or ())
