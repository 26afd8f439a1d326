import re

import pytest
from pydantic import ValidationError

from perceptd.service.auth import credentials
from perceptd.service.settings import Settings


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPTD_PREDICT_TOKEN", "a-token-of-some-length,a-token-to-replace-it")
    for settings in (Settings(), credentials.hashed(Settings())):
        for shown in (repr(settings), str(settings), settings.model_dump_json()):
            assert "a-token" not in shown
            assert credentials.digest_of("a-token-to-replace-it").hex() not in shown


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
        ("PREDICT_TOKEN", "a-token-of-some-length,"),
        ("PREDICT_TOKEN", "a-token-of-some-length,short"),
        ("ADMIN_TOKEN", "sha256:a-token-of-some-length"),
        ("ADMIN_TOKEN", f"sha256:{'0' * 63}"),
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
