"""`perceptd worker`: run jobs."""

import signal
import threading
from typing import Any

import click

from perceptd.models import tracing
from perceptd.service import logging as logs
from perceptd.service.commands.common import (
    DATA_DIR,
    opened_store,
    read_settings,
    wait_for_end_of_input,
)
from perceptd.service.store import db
from perceptd.service.worker.worker import Worker


@click.command()
@DATA_DIR
@click.option("--stop-on-eof", is_flag=True, help="End when standard input ends.")
def worker(stop_on_eof: bool, **overrides: Any) -> None:
    """Run the jobs of a store, one after the other, until told to end.

    Any number of workers may share a PostgreSQL store. A job that runs when its worker ends is
    handed back, and goes on from its last epoch on another.
    """
    settings = read_settings(**overrides)
    logs.configure(settings, "worker")
    tracing.start("worker")
    with opened_store(settings):
        pass
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: the lock of the event may be the main thread's own at this moment.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    if stop_on_eof:
        threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    database = db.connect(settings)
    try:
        Worker(database, settings, stop).run()
    finally:
        database.dispose()
        tracing.stop()


def _end_with_parent(stop: threading.Event) -> None:
    wait_for_end_of_input()
    stop.set()
