"""Load a server with wrk: one thread, many connections, as fast as the server answers.

The rates of the tables come from wrk. Its latencies do not: they leave out the opening of
connections, and it adds some that it did not measure for requests that a slow one delayed.
`benchmarks.closed_loop` measures latencies.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.load import Call

# The body is read from a file because a Lua string would not keep every byte of it. wrk counts a
# status above 399 as an error.
LUA = """
local file = io.open("BODY", "rb")
wrk.method = "POST"
wrk.headers["Content-Type"] = "TYPE"
wrk.headers["Connection"] = CONNECTION
wrk.body = file:read("*a")
function done(summary)
  io.write(string.format("RESULT %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout))
end
"""


def require() -> None:
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")


def rate(url: str, call: Call, connections: int, seconds: float) -> tuple[float, int]:
    """Answers per second, and errors."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "load.lua")
        body.write_bytes(call.body)
        text = LUA.replace("BODY", str(body)).replace("TYPE", call.content_type)
        script.write_text(text.replace("CONNECTION", '"close"' if call.close else "nil"))
        options = [f"--connections={connections}", f"--duration={seconds:.0f}s", "--timeout=10s"]
        command = ["wrk", "--threads=1", *options, f"--script={script}", url + call.path]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+)", answer)
    assert found, answer
    requests, microseconds, errors = map(int, found.groups())
    return requests / microseconds * 1e6, errors
