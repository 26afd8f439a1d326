"""Connections to PostgreSQL that hold nobody up: not one whose server is gone, nor one that hangs.

Timeouts of TCP see a machine that is gone. A server that is stopped, or whose disk hangs, still
has a kernel that acknowledges what is sent; so the wait for its answer is bounded here as well.
"""

import time
from math import inf
from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen
from sqlalchemy import Connection as Checkout
from sqlalchemy import Engine, create_engine, event

from perceptd.service.settings import TIMEOUT_S

SILENCE_S = 2.0 * TIMEOUT_S  # a server that waits for a lock itself has said so by then
IDLE_S = 60  # after which a transaction whose process was stopped is ended, and its locks with it

Result = TypeVar("Result")


class BoundedConnection(Connection[Any]):
    """It is closed, and its error is one of a lost connection, after so long without a word."""

    silence_s = SILENCE_S

    def wait(
        self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None
    ) -> Result:
        try:
            return super().wait(self._bounded(gen), interval, timeout)
        except _SilenceError:
            self.pgconn.finish()  # an answer that comes late is nobody's
            raise

    def _bounded(self, gen: PQGen[Result]) -> PQGen[Result]:
        """That generator, which is told every `interval` whether there was anything to hear."""
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > self.silence_s:
                    raise _SilenceError(f"it has said nothing for {self.silence_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result


class _SilenceError(OperationalError): ...


def connect(url: str) -> Engine:
    options = {
        "client_encoding": "utf8",  # whatever encoding the database was made with
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


def wait_long(connection: Checkout) -> None:
    """Let what runs on this connection take its time, as a migration of large tables may."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, BoundedConnection)  # noqa: S101 - as `connect` makes them
    driver.silence_s = inf
    connection.detach()  # it is closed afterwards, and not given to whoever comes next


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **options)


def _configure(connection: Any, _: Any) -> None:
    """Have the server, too, drop a client that is gone or stopped, and with it its locks."""
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
