"""Connections to PostgreSQL that fail in time if the server is gone or hangs.

TCP timeouts detect a machine that is gone. If only the server process hangs, its kernel still
acknowledges packets, so the wait for an answer is limited here as well.
"""

import time
from math import inf
from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen
from sqlalchemy import Connection as Checkout
from sqlalchemy import Engine, create_engine, event

from perceptd.service.settings import TIMEOUT_S

SILENCE_S = 2.0 * TIMEOUT_S  # longer than the lock timeout of the server
IDLE_S = 60  # after which the server ends an idle transaction and releases its locks

Result = TypeVar("Result")


class BoundedConnection(Connection[Any]):
    """Fails like a lost connection after `silence_s` without an answer."""

    silence_s = SILENCE_S

    def wait(
        self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None
    ) -> Result:
        try:
            return super().wait(self._bounded(gen), interval, timeout)
        except _SilenceError:
            self.pgconn.finish()  # so that nobody reads a late answer
            raise

    def _bounded(self, gen: PQGen[Result]) -> PQGen[Result]:
        """The same generator. psycopg sends it an empty `ready` after each `interval`."""
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > self.silence_s:
                    raise _SilenceError(f"no answer for {self.silence_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result


class _SilenceError(OperationalError): ...


def connect(url: str) -> Engine:
    options = {
        "client_encoding": "utf8",  # in place of that of the database
        "connect_timeout": TIMEOUT_S,
        "tcp_user_timeout": 1000 * TIMEOUT_S,
        "keepalives_idle": TIMEOUT_S,
        "keepalives_interval": 1,
        "keepalives_count": TIMEOUT_S,
    }
    engine = create_engine(url, connect_args=options, pool_timeout=TIMEOUT_S, pool_pre_ping=True)
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _configure)
    return engine


def disable_silence_limit(connection: Checkout) -> None:
    """Let statements on this connection take any time, as migrations of large tables may."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, BoundedConnection)  # noqa: S101 - as `connect` makes them
    driver.silence_s = inf
    connection.detach()  # closes it after use instead of returning it to the pool


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **options)


def _configure(connection: Any, _: Any) -> None:
    """Have the server drop clients that are gone or stopped, and release their locks."""
    with connection.cursor() as cursor:
        for setting, value in (
            ("tcp_keepalives_idle", TIMEOUT_S),
            ("tcp_keepalives_interval", 1),
            ("tcp_keepalives_count", TIMEOUT_S),
            ("tcp_user_timeout", 2000 * TIMEOUT_S),
            ("idle_in_transaction_session_timeout", 1000 * IDLE_S),
        ):
            cursor.execute(f"SET {setting} = {value}")
    connection.commit()
