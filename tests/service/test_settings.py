import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from perceptd.service.auth import credentials
from perceptd.service.settings import Settings, option_and_variable_of, unknown_variable


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


@pytest.mark.parametrize(
    "name",
    [
        "PERCEPTD_DATA_DIR",
        "PERCEPTD_URL",
        "PERCEPTD_TEST_BROWSER",
        "PERCEPTD_SERVICE_HOST",
        "PERCEPTD_SERVICE_PORT_HTTP",
        "PERCEPTD_PORT_8000_TCP_ADDR",
        "HOME",
    ],
)
def test_variables_that_are_read_are_known(name: str) -> None:
    assert unknown_variable({name: ""}) == ""


def test_an_unknown_variable_gets_a_suggestion() -> None:
    error = unknown_variable({"PERCEPTD_DATADIR": "data"})
    assert error == "PERCEPTD_DATADIR is not a setting: did you mean PERCEPTD_DATA_DIR?"
    assert "lists all settings" in unknown_variable({"PERCEPTD_QQQ": ""})


@pytest.mark.parametrize("name", ["perceptd_admin_token", "Perceptd_Data_Dir"])
def test_a_variable_not_in_capitals_is_refused(name: str) -> None:
    """pydantic would read it, but it would not be removed from the environment of jobs."""
    assert unknown_variable({name: "x"}) == f"{name} is not a setting: use capitals, {name.upper()}"


def test_a_setting_is_shown_with_its_option() -> None:
    assert option_and_variable_of("data_dir") == "--data-dir (PERCEPTD_DATA_DIR)"
    assert option_and_variable_of("max_rows") == "PERCEPTD_MAX_ROWS"


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_a_certificate_and_its_key_are_given_together(given: str, missing: str) -> None:
    said = f"{option_and_variable_of(given)} needs {option_and_variable_of(missing)} too"
    with pytest.raises(ValidationError, match=re.escape(said)):
        Settings(**{given: Path("file")})  # type: ignore[arg-type] # the name of a field


def test_a_server_at_a_unix_socket_or_on_loopback_is_local() -> None:
    assert Settings().is_local
    assert Settings(host="0.0.0.0", uds=Path("socket")).is_local
    assert not Settings(host="0.0.0.0").is_local
