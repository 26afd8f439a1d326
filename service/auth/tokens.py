"""Issued tokens: rows with a name, a role and a hash, but without the token."""

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
    """The public facts of an issued token."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None


class Tokens:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, role: Role, lasts: timedelta | None = None) -> str:
        """Issue a token and return it; it cannot be read later.

        Raises `ConflictError` for a name that is invalid or in use.
        """
        if not NAME.fullmatch(name):
            raise ConflictError(f"{name!r} is no name for a token: {NAME_RULE}")
        token = credentials.new_token()
        with db.writing(self._engine) as connection:
            if connection.scalar(select(tables.tokens.c.name).where(tables.tokens.c.name == name)):
                raise ConflictError(f"there is already a token {name}: revoke it first")
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
        """Raises `ConflictError` if there is no such token."""
        with db.writing(self._engine) as connection:
            gone = connection.execute(delete(tables.tokens).where(tables.tokens.c.name == name))
            if gone.rowcount == 0:
                raise ConflictError(f"there is no token {name!r}")

    def all(self) -> list[Issued]:
        """Every issued token that is not revoked, also expired ones, by name."""
        with db.reading(self._engine) as connection:
            rows = connection.execute(select(tables.tokens).order_by(tables.tokens.c.name)).all()
        return [Issued(row.name, row.role, row.created_at, row.expires_at) for row in rows]

    def credentials(self) -> list[Credential]:
        """The same tokens, as a server checks them."""
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
