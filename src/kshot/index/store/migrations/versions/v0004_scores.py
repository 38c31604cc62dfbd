"""Likelihoods that were computed once."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "scores",
        sa.Column("key", sa.LargeBinary(), primary_key=True),
        sa.Column("nats", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.Column("boundary", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("greedy", sa.Boolean()),
        sa.Column("dropped", sa.Integer(), nullable=False),
        sa.Column("lossy", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("per_token", sa.LargeBinary()),
    )
    op.create_index("scores_created_at", "scores", ["created_at", "key"])


def downgrade() -> None:
    """Forget the scores; each can be computed again."""
    op.drop_table("scores")
