"""How many demonstrations a context lost before its completion was scored."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was scored before lost none."""
    op.add_column(
        "scores", sa.Column("dropped_demonstrations", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Forget the scores of such contexts, and drop the column."""
    op.execute("DELETE FROM scores WHERE dropped_demonstrations > 0")
    op.drop_column("scores", "dropped_demonstrations")
