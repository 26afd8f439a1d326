"""Standard input as a lifeline: whoever holds its other end keeps this process alive.

The system closes that end when its holder dies, however it dies, on every system alike.
"""

import os
import signal
import threading
import time

GRACE_S = 2.0  # for cleaning up
STDIN = 0


def hold() -> None:
    """From now on, end this process as SIGTERM does once standard input ends."""
    threading.Thread(target=_wait, name="lifeline", daemon=True).start()


def _wait() -> None:
    # Not through sys.stdin, whose lock a waiting thread would hold when the interpreter shuts down.
    while os.read(STDIN, 4096):
        pass
    signal.raise_signal(signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)
