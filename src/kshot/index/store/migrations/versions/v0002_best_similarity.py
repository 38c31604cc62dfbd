"""The best similarity of each selection, and indexes that count selections."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; one index by pool and time takes the place of two, as times are asked for by pool."""
    op.add_column("selections", sa.Column("best_similarity", sa.Double()))
    op.drop_index("ix_selections_pool_id", "selections")
    op.drop_index("ix_selections_created_at", "selections")
    op.create_index("selections_created_at", "selections", ["pool_id", "created_at"])
    op.create_index("selections_best_similarity", "selections", ["pool_id", "best_similarity", "created_at"])


def downgrade() -> None:
    """Forget the similarities."""
    op.drop_index("selections_best_similarity", "selections")
    op.drop_index("selections_created_at", "selections")
    op.create_index("ix_selections_pool_id", "selections", ["pool_id"])
    op.create_index("ix_selections_created_at", "selections", ["created_at"])
    op.drop_column("selections", "best_similarity")
