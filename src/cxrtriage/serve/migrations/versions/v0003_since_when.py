"""Since when a model's results are shown to nobody, and when a finding was said; links of notices that were sent go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the moments, forget the links."""
    op.add_column("model_version", sa.Column("shadow_since", TIME, nullable=True))
    op.add_column("study", sa.Column("reported_at", TIME, nullable=True))
    op.execute("UPDATE study SET reported_at = read_at WHERE reported_abnormal IS NOT NULL")
    op.execute("UPDATE outbox SET content = '{}' WHERE state = 'sent'")
