"""Aliases: names that point to versions. They decide which version serves."""

from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from perceptd.service.store.tables import aliases

PRODUCTION = "production"
PREVIOUS = "previous"
UNLOADED = "unloaded"  # beside `production`: the model is not loaded

# Aliases that clients cannot point, and why.
RESERVED = {
    PREVIOUS: f"it follows {PRODUCTION}; point {PRODUCTION} instead",
    UNLOADED: "POST /v2/repository/models/MODEL/unload does it",
}


class Serving(NamedTuple):
    """What servers load: the production version of each model that is not unloaded."""

    versions: dict[str, int]
    unloaded: frozenset[str]


def production(connection: Connection) -> dict[str, int]:
    """The production version of each model that has one, unloaded or not."""
    pointing = select(aliases.c.model, aliases.c.version).where(aliases.c.alias == PRODUCTION)
    return {row.model: row.version for row in connection.execute(pointing)}


def serving(connection: Connection) -> Serving:
    both = select(aliases).where(aliases.c.alias.in_((PRODUCTION, UNLOADED)))
    rows = connection.execute(both).all()  # in one query, so that both fit together
    unloaded = frozenset(row.model for row in rows if row.alias == UNLOADED)
    loaded = {
        row.model: row.version
        for row in rows
        if row.alias == PRODUCTION and row.model not in unloaded
    }
    return Serving(loaded, unloaded)


def promote(connection: Connection, model: str, version: int) -> None:
    """Point `production` to a version, and `previous` to the old one; load the model."""
    load(connection, model)
    current = production(connection).get(model)
    if current == version:
        return
    if current is not None:
        point(connection, model, PREVIOUS, current)
    point(connection, model, PRODUCTION, version)


def unload(connection: Connection, model: str) -> None:
    """Unload a model, until it is loaded or a version is promoted."""
    current = production(connection).get(model)
    if current is not None:
        point(connection, model, UNLOADED, current)


def load(connection: Connection, model: str) -> None:
    connection.execute(delete(aliases).where(_is(model, UNLOADED)))


def point(connection: Connection, model: str, alias: str, version: int) -> None:
    """Point an alias to an existing version."""
    change = {"version": version, "updated_at": datetime.now(UTC)}
    moved = connection.execute(update(aliases).where(_is(model, alias)).values(change))
    if moved.rowcount == 0:
        connection.execute(insert(aliases).values(model=model, alias=alias, **change))


def _is(model: str, alias: str) -> ColumnElement[bool]:
    return (aliases.c.model == model) & (aliases.c.alias == alias)
