"""The tables of prompts, policies, decisions and feedback.

Texts of queries are not kept here: a decision has its features, which nobody can read back.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from kshot.index.store.columns import UtcDateTime, big_key, json_column
from kshot.index.store.schema import metadata

prompts = Table(
    "prompts",
    metadata,
    Column("id", big_key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("prompt_id", big_key, ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    json_column("content", nullable=False),
    json_column("metadata", nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Never changed: another text is another version."""

prompt_labels = Table(
    "prompt_labels",
    metadata,
    Column("prompt_id", big_key, ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True),
    Column("label", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("name", Text, primary_key=True),
    json_column("settings", nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("id", big_key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    # Another version learns anew from the log: its features or its algorithm differ.
    Column("version", Integer, nullable=False),
    json_column("config", nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

variants = Table(
    "variants",
    metadata,
    Column("policy_id", big_key, ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("status", Text, nullable=False),
    json_column("config", nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("policy_id", big_key, ForeignKey("policies.id", ondelete="CASCADE"), nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("feature_version", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("chosen", Text, nullable=False),
    # What was shown: `chosen`, unless the mode or the caller had it otherwise.
    Column("served", Text, nullable=False),
    # Of `served`; empty where it is unknown.
    Column("propensity", Double),
    Column("propensity_kind", Text, nullable=False),
    Column("hold_out", Boolean, nullable=False),
    Column("mode", Text, nullable=False),
    # False until `activate`, where the caller asked for that.
    Column("active", Boolean, nullable=False),
    Column("seed", Text, nullable=False),
    Column("session_key", Text),
    Column("subject_id", Text),
    # The selection that `method: auto` answered with it.
    Column("selection_id", Text),
    json_column("eligible", nullable=False),
    # Little-endian: float64 per eligible variant, then int64 per feature.
    Column("probabilities", LargeBinary, nullable=False),
    Column("features", LargeBinary, nullable=False),
    json_column("costs"),
    # What the answer said beside all this, so that a repeated request gets the same.
    json_column("detail"),
    Index("decisions_decided_at", "policy_id", "decided_at"),
    Index("decisions_session_key", "policy_id", "session_key"),
    Index("decisions_subject_id", "subject_id"),
    Index("decisions_selection_id", "selection_id"),
)

policy_sessions = Table(
    "policy_sessions",
    metadata,
    Column("policy_id", big_key, ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
    Column("session_key", Text, primary_key=True),
    Column("variant", Text, nullable=False),
    Column("mixed", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)
"""Which variant a session keeps; ``mixed`` once it had to see another."""

feedback = Table(
    "feedback",
    metadata,
    Column("seq", big_key, primary_key=True),
    # `decision` or `selection`, and its id.
    Column("target_kind", Text, nullable=False),
    Column("target_id", Text, nullable=False),
    # Of the decision's policy; empty for selections, and while the target is not known yet.
    Column("policy_id", big_key),
    Column("metric", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    # reward, correct, retract, cancel, activate, expire, served
    Column("kind", Text, nullable=False),
    Column("value", Double),
    # Of `correct` and `retract`: the key of the one event that is meant; empty: all of the metric.
    Column("of", Text),
    # Of `served`: the variant.
    Column("variant", Text),
    Column("weight", Double, nullable=False),
    Column("source", Text),
    json_column("tags"),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index("feedback_once", "target_id", "metric", "idempotency_key", unique=True),
    Index("feedback_policy", "policy_id", "seq"),
    Index("feedback_received_at", "target_kind", "received_at"),
    sqlite_autoincrement=True,
)
"""The log that states are folded from, in the order of ``seq``; only ever appended to."""

policy_states = Table(
    "policy_states",
    metadata,
    Column("policy_id", big_key, ForeignKey("policies.id", ondelete="CASCADE"), primary_key=True),
    Column("policy_version", Integer, primary_key=True, autoincrement=False),
    Column("upto_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("checksum", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""What the log came to up to an event, so that a start need not fold all of it again."""
