"""Since when a model's results are shown to nobody; links of notices that were sent go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the moment, forget the links."""
    op.add_column("model_version", sa.Column("shadow_since", TIME, nullable=True))
    op.execute("UPDATE outbox SET content = '{}' WHERE state = 'sent'")
