"""What several commands need."""

import select
import socket
import subprocess
import sys

SCRIPT = """
from perceptd.service.commands.common import tell_ready, wait_for_end_of_input
tell_ready()
wait_for_end_of_input()
"""


def test_input_has_ended_if_its_other_end_was_killed_before_it_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=theirs.fileno())
        theirs.close()
        assert select.select([ours], [], [], 60)[0]
    assert process.wait(60) == 0
