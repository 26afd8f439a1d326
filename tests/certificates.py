"""Certificates for this machine, made by the command `openssl`."""

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """Files with a certificate, which signs itself, and its key."""

    cert: Path
    key: Path

    @property
    def options(self) -> list[str]:
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key)]

    @property
    def trusting(self) -> ssl.SSLContext:
        """What a client needs that trusts this certificate only."""
        return ssl.create_default_context(cafile=str(self.cert))


def certificate(folder: Path, name: str = "here", *, passphrase: str = "") -> Certificate:
    """Make a certificate of localhost and 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl")
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    command += ["-out", str(made.cert), "-keyout", str(made.key)]
    subprocess.run(command, check=True, capture_output=True)
    return made
