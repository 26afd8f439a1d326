"""Requests that offer to upgrade the protocol, read as plain HTTP/1.1.

Java's client and `curl --http2` offer HTTP/2 with their first request. A server may ignore the
offer and answer in HTTP/1.1 (RFC 9110, 7.8). uvicorn's parser instead ends the request after its
head: its body would be lost or, arriving later, be taken for the next request.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OFFERS = (b"upgrade", b"http2-settings")
CONNECTION = b"connection"


class WithoutUpgrades(HttpToolsProtocol):
    """A connection that stays with HTTP/1.1."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn
            except httptools.HttpParserError:
                refusal = "Invalid HTTP request received."
                self.logger.warning(refusal)
                self.send_400_response(refusal)
                return

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("CONNECT needs a proxy, and this server is none")

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _without_offer(self) -> bytes:
        """The head of the last request without its offer, to be parsed again."""
        head = [b"%b %b HTTP/" % (self.parser.get_method(), self.url)]
        head += [self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name == CONNECTION:
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(option for option in options if option.lower() not in OFFERS)
            if name not in OFFERS:
                head.append(b"%b: %b\r\n" % (name, value))
        return b"".join([*head, b"\r\n"])
