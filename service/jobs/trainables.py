"""What workers can train, by their own description.

The server does not import the code of architectures. It checks a job against the schema, recipes,
data sets and metrics that a worker stores when it starts; those of built-in models are shipped.
"""

from collections.abc import Sequence

from sqlalchemy import Engine, delete, insert, select

from perceptd.models import trainable
from perceptd.models.trainable import Trainable
from perceptd.service.store import db, tables


class Trainables:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, architecture: str) -> Trainable | None:
        """The newest worker's description of an architecture; None if no worker knows it."""
        if "\0" in architecture:  # PostgreSQL rejects it
            return None
        query = select(tables.trainables.c.description).where(
            tables.trainables.c.architecture == architecture
        )
        with db.reading(self._engine) as connection:
            stored = connection.execute(query).scalar_one_or_none()
        if stored is not None:
            return Trainable.model_validate(stored)
        return next((one for one in trainable.shipped() if one.architecture == architecture), None)

    def names(self) -> list[str]:
        """Every architecture that a worker knows."""
        query = select(tables.trainables.c.architecture)
        with db.reading(self._engine) as connection:
            stored = connection.execute(query).scalars()
            return sorted({*stored, *(one.architecture for one in trainable.shipped())})

    def write(self, trainables: Sequence[Trainable]) -> None:
        """Replace the descriptions of these architectures."""
        with db.writing(self._engine) as connection:
            for one in trainables:
                same = tables.trainables.c.architecture == one.architecture
                connection.execute(delete(tables.trainables).where(same))
                connection.execute(
                    insert(tables.trainables).values(
                        architecture=one.architecture, description=one.model_dump(mode="json")
                    )
                )
