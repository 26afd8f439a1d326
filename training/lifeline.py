"""Standard input as a lifeline: this process ends when the process that started it dies.

Its parent holds the other end of the pipe, which the operating system closes however the parent
dies.
"""

import os
import signal
import threading
import time

GRACE_S = 2.0  # time to clean up after SIGTERM
STDIN = 0


def hold() -> None:
    """From now on, raise SIGTERM once standard input ends, and exit if that does not help."""
    threading.Thread(target=_wait, name="lifeline", daemon=True).start()


def _wait() -> None:
    # Not sys.stdin: a waiting thread would hold its lock when the interpreter shuts down.
    while os.read(STDIN, 4096):
        pass
    signal.raise_signal(signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)
