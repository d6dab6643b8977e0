"""Reading list, models side by side, orders, deliveries, accounts, audit trail, switches."""

import sqlalchemy as sa
from alembic import op

from cxrtriage.serve import audit

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what a reading list needs."""
    op.create_table(
        "account",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("recipient", sa.String(128), server_default="", nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.CheckConstraint("role IN ('reader', 'referrer', 'admin')", name="ck_account_role"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )
    op.create_table(
        "api_token",
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_api_token"),
        sa.UniqueConstraint("name", name="uq_api_token_name"),
    )
    op.create_table(
        "audit",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("action", sa.String(1), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_sha256", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    with op.batch_alter_table("audit") as table:
        table.create_index("ix_audit_study_instance_uid", ["study_instance_uid"], unique=False)

    op.create_table(
        "heartbeat",
        sa.Column("process", sa.String(80), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_heartbeat"),
    )
    op.create_table(
        "imaging_order",
        sa.Column("id", KEY, nullable=False),
        sa.Column("accession_number", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("provider_id", sa.String(64), nullable=False),
        sa.Column("provider_email", sa.String(128), server_default="", nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("procedure_code", sa.String(64), nullable=False),
        sa.Column("procedure_scheme", sa.String(64), nullable=False),
        sa.Column("procedure_text", sa.String(128), nullable=False),
        sa.Column("placer_order_number", sa.String(64), nullable=False),
        sa.Column("filler_order_number", sa.String(64), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_imaging_order"),
        sa.UniqueConstraint("accession_number", name="uq_imaging_order_accession_number"),
    )
    with op.batch_alter_table("imaging_order") as table:
        table.create_index("ix_imaging_order_study_instance_uid", ["study_instance_uid"], unique=False)

    op.create_table(
        "invitation",
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("account_name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("recipient", sa.String(128), server_default="", nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_invitation"),
    )
    op.create_table(
        "model_version",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("activated_at", TIME, nullable=True),
        sa.Column("acceptance", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("role IN ('active', 'shadow', 'retired')", name="ck_model_version_role"),
        sa.PrimaryKeyConstraint("sha256", name="pk_model_version"),
    )
    op.create_table(
        "node_state",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_node_state"),
    )
    op.create_table(
        "sign_in_failure",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_name", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sign_in_failure"),
    )
    with op.batch_alter_table("sign_in_failure") as table:
        table.create_index("ix_sign_in_failure_at", ["at"], unique=False)

    op.create_table(
        "review",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("account_name", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("abnormal", sa.Boolean(), nullable=True),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("score_visible", sa.Boolean(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.CheckConstraint("verdict IN ('agree', 'disagree', 'emergent')", name="ck_review_verdict"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_review_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_review"),
    )
    with op.batch_alter_table("review") as table:
        table.create_index("ix_review_made_at", ["made_at"], unique=False)
        table.create_index("ix_review_study_id", ["study_id"], unique=False)

    op.create_table(
        "web_session",
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("csrf_token", sa.String(64), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_web_session_account_id"),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_web_session"),
    )
    with op.batch_alter_table("web_session") as table:
        table.create_index("ix_web_session_account_id", ["account_id"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", KEY, nullable=False),
        sa.Column("destination", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("result_id", KEY, nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'sending', 'sent', 'parked')", name="ck_outbox_state"),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_outbox_result_id"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_outbox_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
    )
    with op.batch_alter_table("outbox") as table:
        table.create_index("ix_outbox_state_not_before", ["state", "not_before"], unique=False)
        table.create_index("ix_outbox_study_id", ["study_id"], unique=False)

    op.create_table(
        "notice",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("outbox_id", KEY, nullable=False),
        sa.Column("recipient", sa.String(128), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("escalate_at", TIME, nullable=True),
        sa.Column("acknowledged_at", TIME, nullable=True),
        sa.Column("acknowledged_by", sa.String(64), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["outbox_id"], ["outbox.id"], name="fk_notice_outbox_id"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_notice_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
        sa.UniqueConstraint("outbox_id", name="uq_notice_outbox_id"),
        sa.UniqueConstraint("token_sha256", name="uq_notice_token_sha256"),
    )
    with op.batch_alter_table("notice") as table:
        table.create_index("ix_notice_study_id", ["study_id"], unique=False)

    with op.batch_alter_table("job") as table:
        table.add_column(sa.Column("model_sha256", sa.String(64), server_default="", nullable=False))
        table.drop_constraint("uq_job_instance_id", type_="unique")
        table.create_unique_constraint("uq_job_instance_id_model_sha256", ["instance_id", "model_sha256"])

    # films that wait, or were scored before models had rows: the next model that is made active adopts them
    op.execute(
        "UPDATE job SET model_sha256 = coalesce((SELECT max(model_sha256) FROM result "
        "WHERE result.instance_id = job.instance_id), '')"
    )

    with op.batch_alter_table("result") as table:
        table.create_index("ix_result_made_at", ["made_at"], unique=False)

    with op.batch_alter_table("study") as table:
        table.add_column(sa.Column("rank", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("probability", sa.Float(), nullable=True))
        table.add_column(sa.Column("first_result_at", TIME, nullable=True))
        table.add_column(sa.Column("person_rank", sa.Integer(), nullable=True))
        table.add_column(sa.Column("person_ranked_at", TIME, nullable=True))
        table.add_column(sa.Column("read_at", TIME, nullable=True))
        table.add_column(sa.Column("read_by", sa.String(64), server_default="", nullable=False))
        table.add_column(sa.Column("reported_abnormal", sa.Boolean(), nullable=True))
        table.create_index("ix_study_accession_number", ["accession_number"], unique=False)
        table.create_index("ix_study_read_at_rank", ["read_at", "rank"], unique=False)
    audit.make_append_only(op.get_bind())
