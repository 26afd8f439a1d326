"""Events: what happened to a job, in order, each stored once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from perceptd.service.store import tables

ONCE_PER_EPOCH = ("plane", "epoch", "boundary")  # kinds; the plane is of the first epoch


@dataclass(frozen=True)
class Event:
    """`number` counts from 1 in each job; `kind` is `status`, `epoch`, `log` or `gate`.

    A training of a 2-D model also has one `plane`, and a `boundary` for some 40 of its epochs.
    """

    kind: str
    data: dict[str, Any]
    number: int = 0


def append(connection: Connection, job: int, newest: int, events: Sequence[Event]) -> None:
    """Store events of a job, numbered from `newest` + 1."""
    rows = [
        {"job": job, "number": number, "kind": event.kind, "data": event.data}
        for number, event in enumerate(events, newest + 1)
    ]
    if rows:
        connection.execute(insert(tables.job_events), rows)


def unseen(connection: Connection, job: int, events: Sequence[Event]) -> list[Event]:
    """The events that are not stored yet: epochs rise within each kind.

    An event comes twice after a heartbeat whose answer was lost, and from a resumed training.
    """
    newest: dict[str, int] = {}
    new = []
    for event in events:
        if event.kind in ONCE_PER_EPOCH:
            if event.kind not in newest:
                newest[event.kind] = _last_epoch(connection, job, event.kind)
            if (epoch := _epoch_of(event.data)) <= newest[event.kind]:
                continue
            newest[event.kind] = epoch
        new.append(event)
    return new


def _last_epoch(connection: Connection, job: int, kind: str) -> int:
    """The epoch of the newest stored event of a kind; 0 without one."""
    events = tables.job_events.c
    query = (
        select(events.data)
        .where(events.job == job, events.kind == kind)
        .order_by(events.number.desc())
        .limit(1)
    )
    data = connection.execute(query).scalar_one_or_none()
    return _epoch_of(data) if data else 0


def _epoch_of(data: dict[str, Any]) -> int:
    epoch: int = data.get("epoch", 1)
    return epoch
