"""What plans propose to label."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "plan_items",
        sa.Column("plan_id", sa.Text(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("pool_id", key, sa.ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
        sa.Column("example_id", sa.Text(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=False),
        sa.Column("cost", sa.Double()),
        sa.Column("stratum", sa.Text()),
        sa.Column("layer", sa.Integer()),
    )
    op.create_index("ix_plan_items_pool_id", "plan_items", ["pool_id"])


def downgrade() -> None:
    """Forget the items; the jobs remain."""
    op.drop_table("plan_items")
