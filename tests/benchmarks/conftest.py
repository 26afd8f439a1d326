"""A real server that counts what arrives."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

OPENING_S = 0.05


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    connections = requests = 0


class Handler(BaseHTTPRequestHandler):
    """Answers 200, or the status that the body names. Each connection is slow to open."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        time.sleep(OPENING_S)

    def do_POST(self) -> None:  # the name that the library calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self.send_response(int(body) if len(body) == 3 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()
