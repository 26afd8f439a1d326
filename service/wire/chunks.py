"""Where a chunked body ends (RFC 9112, 7.1)."""

MAX_KEPT = 64  # bytes of an incomplete line: a size, or enough to see that it is not empty


class Chunks:
    """The chunks that are still to come. What is wrong with them, the parser says."""

    def __init__(self, skip: int) -> None:
        self._skip = skip  # bytes to the next line: of the head, of a chunk
        self._line = b""  # as much of it as has arrived
        self._is_trailer = False
        self.trailer_bytes = 0
        self._is_wrong = False

    def end_in(self, data: bytes) -> int | None:
        """Where in the next piece the body ends; None if it goes on."""
        at = 0
        while at < len(data) and not self._is_wrong:
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at)
            until = end + 1 if end >= 0 else len(data)
            self._line = (self._line + data[at:until])[:MAX_KEPT]
            self.trailer_bytes += (until - at) * self._is_trailer
            at = until
            if end < 0:
                return None
            line, self._line = self._line.strip(), b""
            if not self._is_trailer:
                self._read_size(line.partition(b";")[0])
            elif not line:
                return at
        return None

    def _read_size(self, digits: bytes) -> None:
        try:
            size = int(digits, 16) if digits.strip().isalnum() else -1
        except ValueError:
            size = -1
        self._is_wrong, self._is_trailer = size < 0, size == 0
        self._skip = size + len(b"\r\n") if size > 0 else 0
