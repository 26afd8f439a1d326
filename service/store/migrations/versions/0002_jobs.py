"""Jobs, events, feedback, trainables, and the job of a version."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

RUNNING = sa.text("status IN ('running', 'cancelling')")


def upgrade() -> None:
    op.add_column("versions", sa.Column("job", sa.Integer))
    op.create_index("ux_versions_job", "versions", ["job"], unique=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("idempotency_key", sa.String, unique=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("runtime_s", sa.Float, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("version", sa.Integer),
        sa.Column("promotion", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("code", sa.String),
        sa.Column("gate", sa.JSON),
        sa.Column("reproduction", sa.JSON),
        sa.Column("log", sa.JSON, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    op.create_index(
        "ux_jobs_one_running_per_model",
        "jobs",
        ["model"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
    op.create_table(
        "job_events",
        sa.Column("job", sa.Integer, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, sa.ForeignKey("models.name"), nullable=False, index=True),
        sa.Column("inputs", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "trainables",
        sa.Column("architecture", sa.String, primary_key=True),
        sa.Column("description", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("trainables", "feedback", "job_events", "jobs"):
        op.drop_table(table)
    op.drop_index("ux_versions_job", "versions")
    op.drop_column("versions", "job")
