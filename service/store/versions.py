"""Versions: the rows of models and of their versions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from perceptd.models.checkpoint import Meta
from perceptd.service.errors import ConflictError, ModelNotFoundError, VersionNotFoundError
from perceptd.service.store import tables

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
NAME_RULE = "lower-case letters, digits, '.', '_' and '-', at most 63"


@dataclass(frozen=True)
class Version:
    """One version of a model and its origin."""

    model: str
    version: int
    parent: int | None
    job: int | None
    created_at: datetime
    meta: Meta
    aliases: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return self.meta.weights_sha256


def check_name(model: str) -> None:
    """Raise `ConflictError` for an invalid name of a model."""
    if not NAME.fullmatch(model):
        raise ConflictError(f"{model!r} is no name for a model: {NAME_RULE}")


def get(connection: Connection, model: str, number: int) -> Version:
    """One version. Raises `ModelNotFoundError`, `VersionNotFoundError`."""
    found = find(connection, model, number)
    if not found:
        get_all(connection, model)
        raise VersionNotFoundError(f"{model} has no version {number}")
    return found[0]


def get_all(connection: Connection, model: str) -> list[Version]:
    """Every version of a model, newest first. Raises `ModelNotFoundError`."""
    if found := find(connection, model):
        return found
    raise ModelNotFoundError(f"no model is called {model[:64]!r}")


def find(connection: Connection, model: str, number: int | None = None) -> list[Version]:
    """The versions of a model, newest first, or the one with a number; empty without any."""
    if not NAME.fullmatch(model) or (number or 0) > tables.MAX_INTEGER:
        return []  # PostgreSQL rejects some of these values
    named = (
        select(tables.aliases)
        .where(tables.aliases.c.model == model)
        .order_by(tables.aliases.c.alias)
    )
    pointing = connection.execute(named).all()
    newest_first = (
        select(tables.versions)
        .where(tables.versions.c.model == model)
        .order_by(tables.versions.c.version.desc())
    )
    if number is not None:
        newest_first = newest_first.where(tables.versions.c.version == number)
    return [
        Version(
            model=row.model,
            version=row.version,
            parent=row.parent,
            job=row.job,
            created_at=row.created_at,
            meta=Meta.model_validate(row.meta),
            aliases=tuple(alias.alias for alias in pointing if alias.version == row.version),
        )
        for row in connection.execute(newest_first)
    ]


def add(
    connection: Connection, model: str, known: Sequence[Version], meta: Meta, job: int | None
) -> int:
    """Insert the next version after the `known` ones, newest first, and return its number.

    Raises `ConflictError` if its input or labels differ from theirs.
    """
    now = datetime.now(UTC)
    if known:
        _check_fits(known[0], meta)
    else:
        row = {"name": model, "architecture": meta.architecture, "created_at": now}
        connection.execute(insert(tables.models).values(row))
    number = known[0].version + 1 if known else 1
    parents = [one.version for one in known if one.sha256 == meta.parent_sha256]
    connection.execute(
        insert(tables.versions).values(
            model=model,
            version=number,
            sha256=meta.weights_sha256,
            parent=parents[0] if parents else None,
            job=job,
            created_at=now,
            meta=meta.model_dump(mode="json"),
        )
    )
    return number


def _check_fits(newest: Version, meta: Meta) -> None:
    """All versions of a model have the same input and labels, so that each can replace another."""
    old, new = newest.meta.spec, meta.spec
    for what, before, after in (
        ("input", old.input, new.input),
        ("labels", old.labels, new.labels),
    ):
        if before != after:
            raise ConflictError(
                f"{newest.model} has {what} {before}, the checkpoint has {after}: "
                "register it under another name"
            )
