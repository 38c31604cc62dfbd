"""Prompts, policies, decisions and feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "prompts",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("created_at", _TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "prompt_versions",
        sa.Column("prompt_id", _KEY, sa.ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "prompt_labels",
        sa.Column("prompt_id", _KEY, sa.ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("label", sa.Text(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    op.create_table(
        "metrics",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "policies",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "variants",
        sa.Column("policy_id", _KEY, sa.ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("policy_id", _KEY, sa.ForeignKey("policies.id", ondelete="CASCADE"), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("feature_version", sa.Text(), nullable=False),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("served", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Double()),
        sa.Column("propensity_kind", sa.Text(), nullable=False),
        sa.Column("hold_out", sa.Boolean(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("seed", sa.Text(), nullable=False),
        sa.Column("session_key", sa.Text()),
        sa.Column("subject_id", sa.Text()),
        sa.Column("selection_id", sa.Text()),
        sa.Column("eligible", sa.JSON(), nullable=False),
        sa.Column("probabilities", sa.LargeBinary(), nullable=False),
        sa.Column("features", sa.LargeBinary(), nullable=False),
        sa.Column("costs", sa.JSON()),
        sa.Column("detail", sa.JSON()),
    )
    op.create_index("decisions_decided_at", "decisions", ["policy_id", "decided_at"])
    op.create_index("decisions_session_key", "decisions", ["policy_id", "session_key"])
    op.create_index("decisions_subject_id", "decisions", ["subject_id"])
    op.create_index("decisions_selection_id", "decisions", ["selection_id"])
    op.create_table(
        "policy_sessions",
        sa.Column("policy_id", _KEY, sa.ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("session_key", sa.Text(), primary_key=True),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("mixed", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_index("ix_policy_sessions_created_at", "policy_sessions", ["created_at"])
    op.create_table(
        "feedback",
        sa.Column("seq", _KEY, primary_key=True),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("policy_id", _KEY),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("of", sa.Text()),
        sa.Column("variant", sa.Text()),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("tags", sa.JSON()),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("feedback_once", "feedback", ["target_id", "metric", "idempotency_key"], unique=True)
    op.create_index("feedback_policy", "feedback", ["policy_id", "seq"])
    op.create_index("feedback_received_at", "feedback", ["target_kind", "received_at"])
    op.create_table(
        "policy_states",
        sa.Column("policy_id", _KEY, sa.ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("policy_version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("upto_seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )


def downgrade() -> None:
    """Forget all of it."""
    for name in (
        "policy_states",
        "feedback",
        "policy_sessions",
        "decisions",
        "variants",
        "policies",
        "metrics",
        "prompt_labels",
        "prompt_versions",
        "prompts",
    ):
        op.drop_table(name)
