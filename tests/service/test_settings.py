import re

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_protection(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.test"])
def test_a_public_address_needs_a_token_or_a_word(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCEPTD_HOST", host)
    with pytest.raises(ValidationError, match="PERCEPTD_PREDICT_TOKEN"):
        Settings()
    monkeypatch.setenv("PERCEPTD_OPEN_PREDICTIONS", "1")
    assert Settings().host == host
    monkeypatch.delenv("PERCEPTD_OPEN_PREDICTIONS")
    monkeypatch.setenv("PERCEPTD_PREDICT_TOKEN", "a-token-of-some-length")
    assert Settings().host == host


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPTD_PREDICT_TOKEN", "a-token-of-some-length")
    assert "a-token" not in repr(Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "-1"),
        ("PORT", "http"),
        ("DEVICE", "gpu"),
        ("RUNTIME", "jax"),
        ("MAX_ROWS", "-1"),
        ("PREDICT_TOKEN", "short"),
        ("PREDICT_TOKEN", "a-token-of-söme-length"),
        ("DATABASE_URL", "postgresql+psycopg://u@h:port/x"),
        ("DATABASE_URL", "mysql://u@h/x"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PERCEPTD_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_every_setting_says_what_it_does() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert re.search(r"[.)]$", field.description), name
