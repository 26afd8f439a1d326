"""The tables.

They use SQLAlchemy's Core. Importing the object mapper would take a tenth of a server's start.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)

MAX_INTEGER = 2**31 - 1  # of an INTEGER in PostgreSQL

metadata = MetaData()


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC, also on SQLite, which stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


# A model: the name under which versions serve.
models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True),
    Column("architecture", String, nullable=False),
    Column("created_at", Utc, nullable=False),
)

# One immutable version of a model. Its files are in `checkpoints/MODEL/VERSION/`.
versions = Table(
    "versions",
    metadata,
    Column("model", String, ForeignKey("models.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String, nullable=False),
    Column("parent", Integer),
    Column("created_at", Utc, nullable=False),
    Column("meta", JSON, nullable=False),
    Column("job", Integer),
    # A job makes one version, however often it is resumed.
    Index("ux_versions_job", "job", unique=True),
)

# A name that points to a version: `production`, `previous`, or the user's own.
aliases = Table(
    "aliases",
    metadata,
    Column("model", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_at", Utc, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

# One training, import or reproduction. Rows change and are never deleted.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("status", String, nullable=False),
    Column("request", JSON, nullable=False),  # as it was sent
    Column("plan", JSON, nullable=False),  # with every default filled in
    Column("idempotency_key", String, unique=True),
    Column("fingerprint", String, nullable=False),  # of the request that came with the key
    Column("created_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("finished_at", Utc),
    Column("attempts", Integer, nullable=False),
    Column("worker", String),
    Column("lease_until", Utc),
    Column("runtime_s", Float, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("version", Integer),
    Column("promotion", String),
    Column("reason", String),  # of the promotion, the failure, the cancellation
    Column("code", String),  # of the failure
    Column("gate", JSON(none_as_null=True)),  # the verdict
    Column("reproduction", JSON(none_as_null=True)),  # how the weights' hashes compare
    Column("log", JSON, nullable=False),  # the training's last lines
    Column("events", Integer, nullable=False),  # the number of the newest event
    Column("traceparent", String),  # of the request, as in W3C Trace Context
    Index("ix_jobs_status", "status"),
    # The database itself enforces that a model has one running job.
    Index(
        "ux_jobs_one_running_per_model",
        "model",
        unique=True,
        sqlite_where=text("status IN ('running', 'cancelling')"),
        postgresql_where=text("status IN ('running', 'cancelling')"),
    ),
    sqlite_autoincrement=True,
)

# The events of jobs, in order.
job_events = Table(
    "job_events",
    metadata,
    Column("job", Integer, ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("data", JSON, nullable=False),
)

# One row of input with its corrected label.
feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String, ForeignKey("models.name"), nullable=False, index=True),
    Column("inputs", LargeBinary, nullable=False),  # float32, little-endian
    Column("label", String, nullable=False),
    Column("created_at", Utc, nullable=False),
    sqlite_autoincrement=True,
)

# What can be trained of an architecture, by the newest worker that knows it.
trainables = Table(
    "trainables",
    metadata,
    Column("architecture", String, primary_key=True),
    Column("description", JSON, nullable=False),
)

# An issued bearer token. Only its hash is stored, so the database reveals no token.
tokens = Table(
    "tokens",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),  # admin or predict
    Column("sha256", String, nullable=False, unique=True),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc),
)
