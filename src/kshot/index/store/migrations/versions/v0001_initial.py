"""Pools, examples, selections, jobs, idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("removed_in IS NULL")
_PAST = sa.text("removed_in IS NOT NULL")


def _key() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def upgrade() -> None:
    """Create the tables."""
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(counters, [{"name": "examples.seq", "value": 0}])
    op.create_table(
        "pools",
        sa.Column("id", _key(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("embedder_fingerprint", sa.Text()),
        sa.Column("dimension", sa.Integer()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        _time("created_at"),
        _time("updated_at"),
        sqlite_autoincrement=True,
    )
    _create_examples()
    op.create_table(
        "selections",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("pool_id", _key(), sa.ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
        sa.Column("pool_version", sa.BigInteger(), nullable=False),
        _time("created_at"),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("demonstrations", sa.JSON(), nullable=False),
        sa.Column("query", sa.JSON()),
        sa.Column("abstained", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_selections_pool_id", "selections", ["pool_id"])
    op.create_index("ix_selections_created_at", "selections", ["created_at"])
    op.create_table(
        "jobs",
        sa.Column("number", _key(), primary_key=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pool_id", _key(), sa.ForeignKey("pools.id", ondelete="SET NULL")),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger()),
        sa.Column("phase", sa.Text()),
        sa.Column("result", sa.JSON()),
        sa.Column("error", sa.JSON()),
        _time("created_at"),
        _time("updated_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_pool_id", "jobs", ["pool_id"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("response", sa.JSON()),
        _time("created_at"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _create_examples() -> None:
    op.create_table(
        "examples",
        sa.Column("seq", _key(), primary_key=True, autoincrement=False),
        sa.Column("pool_id", _key(), sa.ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("feature_seq", sa.BigInteger(), nullable=False),
        sa.Column("added_in", sa.BigInteger(), nullable=False),
        sa.Column("removed_in", sa.BigInteger()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("split", sa.Text()),
        sa.Column("subject_id", sa.Text()),
        sa.Column("group", sa.Text()),
        sa.Column("content_hash", sa.Text()),
        sa.Column("input_hash", sa.Text()),
        _time("created_at"),
        _time("updated_at"),
        sa.Column("short_outputs", sa.JSON()),
        sa.Column("metadata", sa.JSON()),
        sa.Column("outputs", sa.JSON()),
        sa.Column("inputs", sa.JSON()),
        sa.Column("vector", sa.LargeBinary()),
    )
    for name, columns, where in (
        ("examples_live_id", ["id"], _LIVE),
        ("examples_past_id", ["id", "removed_in"], _PAST),
        ("examples_live_seq", ["seq"], _LIVE),
        ("examples_removed_in", ["removed_in"], _PAST),
        ("examples_feature_seq", ["feature_seq"], None),
        ("examples_added_in", ["added_in"], None),
        ("examples_live_input", ["input_hash", "id"], _LIVE),
        ("examples_subject_id", ["subject_id", "removed_in"], None),
    ):
        op.create_index(
            name,
            "examples",
            ["pool_id", *columns],
            unique=name == "examples_live_id",
            sqlite_where=where,
            postgresql_where=where,
        )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("idempotency_keys", "jobs", "selections", "examples", "pools", "counters"):
        op.drop_table(name)
