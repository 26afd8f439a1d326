"""The certificate and the key of a server, checked before it starts."""

import ssl
from pathlib import Path

from perceptd.service.settings import Settings, option_and_variable_of


def check(settings: Settings) -> None:
    """Raises `OSError` if the files are missing, hold something else or do not belong together."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    _check_readable("tls_cert", settings.tls_cert)
    _check_readable("tls_key", settings.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(settings.tls_cert)
    except ssl.SSLError:
        raise _error("tls_cert", settings.tls_cert, "expected a certificate as PEM") from None
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: "")
    except ssl.SSLError as error:
        expected = "expected a private key as PEM, without a passphrase"
        if error.reason == "KEY_VALUES_MISMATCH":
            expected = f"expected the private key of the certificate in {settings.tls_cert}"
        raise _error("tls_key", settings.tls_key, expected) from None


def _check_readable(field: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise _error(field, path, f"cannot read it: {error.strerror}") from None


def _error(field: str, path: Path, what: str) -> OSError:
    return OSError(f"{option_and_variable_of(field)}: {path}: {what}")
