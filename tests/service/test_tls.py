"""The files of TLS, and a server that answers over HTTPS."""

from pathlib import Path

import httpx
import pytest

from perceptd.service import tls
from perceptd.service.settings import Settings
from tests.certificates import Certificate, certificate
from tests.command_line import perceptd
from tests.raw_http import XOR
from tests.service.served import Served


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def refusal(cert: Path, key: Path) -> str:
    with pytest.raises(OSError, match="tls") as caught:
        tls.check(Settings(tls_cert=cert, tls_key=key))
    return str(caught.value)


def test_a_certificate_with_its_key_is_accepted(here: Certificate) -> None:
    tls.check(Settings(tls_cert=here.cert, tls_key=here.key))


def test_a_wrong_file_is_named_with_its_option_and_what_was_expected(
    here: Certificate, tmp_path: Path
) -> None:
    absent = tmp_path / "absent"
    assert refusal(absent, here.key) == (
        f"--tls-cert (PERCEPTD_TLS_CERT): {absent}: cannot read it: No such file or directory"
    )
    assert refusal(here.cert, tmp_path) == (
        f"--tls-key (PERCEPTD_TLS_KEY): {tmp_path}: cannot read it: Is a directory"
    )
    assert refusal(here.key, here.key) == (
        f"--tls-cert (PERCEPTD_TLS_CERT): {here.key}: expected a certificate as PEM"
    )
    no_key = "expected a private key as PEM, without a passphrase"
    assert refusal(here.cert, here.cert) == (f"--tls-key (PERCEPTD_TLS_KEY): {here.cert}: {no_key}")
    locked = certificate(tmp_path, passphrase="secret")
    assert refusal(locked.cert, locked.key).endswith(f"{locked.key}: {no_key}")


def test_the_key_of_another_certificate_is_refused(here: Certificate, tmp_path: Path) -> None:
    other = certificate(tmp_path, "other")
    assert refusal(here.cert, other.key) == (
        f"--tls-key (PERCEPTD_TLS_KEY): {other.key}: "
        f"expected the private key of the certificate in {here.cert}"
    )


def test_a_server_does_not_start_without_its_certificate(tmp_path: Path) -> None:
    absent = Certificate(tmp_path / "absent", tmp_path / "absent")
    refused = perceptd("serve", "--port", "0", *absent.options, data_dir=tmp_path / "data")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: --tls-cert (PERCEPTD_TLS_CERT): ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", ["1", "2"])
def test_predictions_are_answered_over_https(
    here: Certificate, tmp_path: Path, processes: str
) -> None:
    served = Served(tmp_path, *here.options, PERCEPTD_PROCESSES=processes, PERCEPTD_WORKERS="0")
    try:
        assert served.url.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=served.url, verify=here.trusting, timeout=30) as client:
            for _ in range(2):
                answer = client.post("/predict", json=XOR).raise_for_status().json()
                assert answer["predictions"][0]["label"] == "1"
            assert client.get("/health/ready").json()["status"] == "ready"
        plain = served.url.replace("https:", "http:")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{plain}/health/live", timeout=30)
        trained = ["jobs", "list", "--url", served.url]
        trusted = perceptd(*trained, data_dir=served.data_dir, SSL_CERT_FILE=str(here.cert))
        assert trusted.exit_code == 0, trusted.stderr
        distrusted = perceptd(*trained, data_dir=served.data_dir)
        assert distrusted.exit_code == 1
        assert "certificate verify failed" in distrusted.stderr
    finally:
        served.end()
    assert "Traceback" not in served.log.read_text()
