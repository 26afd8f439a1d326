"""Tokens that were issued: rows with a name, a role and a hash, never the token itself."""

import math
from datetime import datetime, timedelta
from typing import NamedTuple, cast, get_args

from sqlalchemy import Engine, delete, insert, select

from perceptd.service.auth import credentials
from perceptd.service.auth.credentials import Credential, Role
from perceptd.service.errors import ConflictError
from perceptd.service.store import db, tables
from perceptd.service.store.versions import NAME, NAME_RULE

ROLES: tuple[Role, ...] = get_args(Role)


class Issued(NamedTuple):
    """What is known of an issued token."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None


class Tokens:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, role: Role, lasts: timedelta | None = None) -> str:
        """Issue a token: this is the only time that it is told.

        Raises `ConflictError` for a name that is none or is taken.
        """
        if not NAME.fullmatch(name):
            raise ConflictError(f"{name!r} is no name for a token: {NAME_RULE}")
        token = credentials.new_token()
        with db.writing(self._engine) as connection:
            if connection.scalar(select(tables.tokens.c.name).where(tables.tokens.c.name == name)):
                raise ConflictError(f"there is a token {name} already: revoke it first")
            now = db.now(connection)
            row = {
                "name": name,
                "role": role,
                "sha256": credentials.digest_of(token).hex(),
                "created_at": now,
                "expires_at": now + lasts if lasts else None,
            }
            connection.execute(insert(tables.tokens).values(row))
        return token

    def revoke(self, name: str) -> None:
        """Raises `ConflictError` where there is no such token."""
        with db.writing(self._engine) as connection:
            gone = connection.execute(delete(tables.tokens).where(tables.tokens.c.name == name))
            if gone.rowcount == 0:
                raise ConflictError(f"there is no token {name!r}")

    def all(self) -> list[Issued]:
        """Every token that was issued and not revoked, expired or not, by name."""
        with db.reading(self._engine) as connection:
            rows = connection.execute(select(tables.tokens).order_by(tables.tokens.c.name)).all()
        return [Issued(row.name, row.role, row.created_at, row.expires_at) for row in rows]

    def credentials(self) -> list[Credential]:
        """The same as a server checks them."""
        with db.reading(self._engine) as connection:
            rows = connection.execute(select(tables.tokens)).all()
        return [
            Credential(
                cast(Role, row.role),
                bytes.fromhex(row.sha256),
                row.name,
                row.expires_at.timestamp() if row.expires_at else math.inf,
            )
            for row in rows
            if row.role in ROLES
        ]
