"""The tables. A change here needs a migration in ``migrations/versions`` and a new `HEAD`."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from kshot.index.store.columns import UtcDateTime, big_key, json_column

HEAD: Final = "0006"
"""The schema revision that this code reads and writes."""

VERSION_TABLE: Final = "kshot_schema"
"""Where Alembic keeps the revision; a database without it is no kshot store."""


metadata = MetaData()

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Numbers given out so far. A row of its own, since a deleted row's number must never come back."""

pools = Table(
    "pools",
    metadata,
    Column("id", big_key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    json_column("settings", nullable=False),
    Column("embedder_fingerprint", Text),
    Column("dimension", Integer),
    Column("version", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

_LIVE = text("removed_in IS NULL")
_PAST = text("removed_in IS NOT NULL")

examples = Table(
    "examples",
    metadata,
    Column("seq", big_key, primary_key=True, autoincrement=False),
    Column("pool_id", big_key, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
    Column("id", Text, nullable=False),
    Column("feature_seq", BigInteger, nullable=False),
    Column("added_in", BigInteger, nullable=False),
    Column("removed_in", BigInteger),
    Column("status", Text, nullable=False),
    Column("split", Text),
    Column("subject_id", Text),
    Column("group", Text),
    # Empty once the example was erased, as is every column below that holds content.
    Column("content_hash", Text),
    Column("input_hash", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # A copy of what may be a label in the outputs, so that reading headers touches no long cell.
    json_column("short_outputs"),
    # The long cells come last: SQLite walks over everything that stands before the cell it wants.
    json_column("metadata"),
    json_column("outputs"),
    json_column("inputs"),
    Column("vector", LargeBinary),
    Index("examples_live_id", "pool_id", "id", unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("examples_past_id", "pool_id", "id", "removed_in", sqlite_where=_PAST, postgresql_where=_PAST),
    Index("examples_live_seq", "pool_id", "seq", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("examples_feature_seq", "pool_id", "feature_seq"),
    Index("examples_added_in", "pool_id", "added_in"),
    Index("examples_removed_in", "pool_id", "removed_in", sqlite_where=_PAST, postgresql_where=_PAST),
    Index("examples_live_input", "pool_id", "input_hash", "id", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("examples_subject_id", "pool_id", "subject_id", "removed_in"),
)
"""One row per version of an example: live while ``removed_in`` is null, a tombstone once its content is."""

selections = Table(
    "selections",
    metadata,
    Column("id", Text, primary_key=True),
    Column("pool_id", big_key, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
    Column("pool_version", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("method", Text, nullable=False),
    json_column("request", nullable=False),
    json_column("demonstrations", nullable=False),
    json_column("query"),
    Column("abstained", Boolean, nullable=False),
    Column("best_similarity", Double),
    # Both counts of a pool's statistics are answered by an index alone: a row is long.
    Index("selections_created_at", "pool_id", "created_at"),
    Index("selections_best_similarity", "pool_id", "best_similarity", "created_at"),
)
"""``best_similarity`` is empty where the query had no vector, or was answered before it was recorded."""

jobs = Table(
    "jobs",
    metadata,
    Column("number", big_key, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    # A job outlives its pool, so that whoever waits for it learns how it ended.
    Column("pool_id", big_key, ForeignKey("pools.id", ondelete="SET NULL"), index=True),
    json_column("params", nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger),
    Column("phase", Text),
    json_column("result"),
    json_column("error"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)
"""``number`` orders the jobs by age and is the cursor of their pages."""

plan_items = Table(
    "plan_items",
    metadata,
    Column("plan_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("pool_id", big_key, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("example_id", Text, nullable=False),
    Column("gain", Double, nullable=False),
    Column("cost", Double),
    Column("stratum", Text),
    Column("layer", Integer),
)
"""What a plan, which is a job, proposes to label; the first has rank 1."""

scores = Table(
    "scores",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("nats", Double, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("characters", Integer, nullable=False),
    Column("boundary", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("greedy", Boolean),
    Column("dropped", Integer, nullable=False),
    Column("dropped_demonstrations", Integer, nullable=False, server_default="0"),
    Column("lossy", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("per_token", LargeBinary),
    Index("scores_created_at", "created_at", "key"),
)
"""Likelihoods by a hash of model, context and completion: no text is kept. ``nats`` may be infinite."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),
    # Both empty while the first request is in flight.
    Column("status_code", Integer),
    json_column("response"),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)
