"""Since when a model's results are shown to nobody."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the moment."""
    op.add_column("model_version", sa.Column("shadow_since", TIME, nullable=True))
