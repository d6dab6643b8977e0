"""Films, whom they show, where they stand and what models said of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "study",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("accession_number", sa.String(16), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("study_instance_uid", name="uq_study_study_instance_uid"),
    )
    op.create_table(
        "instance",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("body_part", sa.String(16), nullable=False),
        sa.Column("view_position", sa.String(16), nullable=False),
        sa.Column("age_years", sa.Float()),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("calling_ae", sa.String(16), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_instance_study_id"),
        sa.UniqueConstraint("sop_instance_uid", "content_sha256", name="uq_instance_sop_instance_uid_content_sha256"),
        sa.UniqueConstraint("path", name="uq_instance_path"),
    )
    op.create_index("ix_instance_study_id", "instance", ["study_id"])
    op.create_table(
        "patient",
        sa.Column("instance_id", KEY, nullable=False),
        sa.Column("name", sa.String(324), nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("birth_date", sa.String(8), nullable=False),
        sa.Column("sex", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name="pk_patient"),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name="fk_patient_instance_id"),
    )
    op.create_table(
        "job",
        sa.Column("id", KEY, nullable=False),
        sa.Column("instance_id", KEY, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", TIME),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name="fk_job_instance_id"),
        sa.UniqueConstraint("instance_id", name="uq_job_instance_id"),
        sa.CheckConstraint(
            "state IN ('received', 'running', 'done', 'failed', 'not_assessed')", name=op.f("ck_job_state")
        ),
    )
    op.create_index("ix_job_state_not_before", "job", ["state", "not_before"])
    op.create_table(
        "result",
        sa.Column("id", KEY, nullable=False),
        sa.Column("instance_id", KEY, nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_result"),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name="fk_result_instance_id"),
        sa.UniqueConstraint("instance_id", "model_sha256", name="uq_result_instance_id_model_sha256"),
    )
