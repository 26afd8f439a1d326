"""Corrected labels, stored for trainings that include them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, func, insert, select

from perceptd.service.store import db, tables

FLOAT32 = np.dtype("<f4")


class Feedback:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, model: str, rows: NDArray[np.float32], labels: Sequence[str]) -> int:
        """Store rows (N, *shape) with their labels, and return the new count of the model."""
        with db.writing(self._engine) as connection:
            now = db.now(connection)
            connection.execute(
                insert(tables.feedback),
                [
                    {
                        "model": model,
                        "inputs": row.astype(FLOAT32).tobytes(),
                        "label": label,
                        "created_at": now,
                    }
                    for row, label in zip(rows, labels, strict=True)
                ],
            )
            return _count(connection, model)

    def count(self, model: str) -> int:
        """The number of rows of a model."""
        with db.reading(self._engine) as connection:
            return _count(connection, model)

    def newest(self, model: str) -> int | None:
        """The id of the newest row of a model; ids rise."""
        query = select(func.max(tables.feedback.c.id)).where(tables.feedback.c.model == model)
        with db.reading(self._engine) as connection:
            newest: int | None = connection.execute(query).scalar_one()
            return newest

    def write(self, model: str, until: int, shape: tuple[int, ...], path: Path) -> None:
        """Write the rows up to the id `until` to an NPZ file with `inputs` and `labels`."""
        query = (
            select(tables.feedback.c.inputs, tables.feedback.c.label)
            .where(tables.feedback.c.model == model, tables.feedback.c.id <= until)
            .order_by(tables.feedback.c.id)
        )
        with db.reading(self._engine) as connection:
            rows = connection.execute(query).all()
        inputs = np.frombuffer(b"".join(row.inputs for row in rows), FLOAT32)
        np.savez(
            path,
            inputs=inputs.reshape(len(rows), *shape).astype(np.float32),
            labels=np.array([row.label for row in rows]),
        )


def _count(connection: Connection, model: str) -> int:
    counted = select(func.count()).where(tables.feedback.c.model == model)
    return connection.execute(counted).scalar_one()
