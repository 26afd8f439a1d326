import multiprocessing
import stat
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from perceptd.service.auth import credentials
from perceptd.service.errors import ConflictError, StoreError
from perceptd.service.settings import TOKEN as ACCEPTABLE
from perceptd.service.settings import Settings
from tests.service.admin import problem

TOKEN, OTHER = "a-token-of-some-length", "another-of-some-length"


@pytest.mark.parametrize(
    ("setting", "accepted", "first"),
    [
        (TOKEN, [TOKEN], TOKEN),
        (f"{TOKEN}, {OTHER}", [TOKEN, OTHER], TOKEN),
        (credentials.hash_of(TOKEN), [TOKEN], None),
        (
            f"{credentials.hash_of(TOKEN).upper().replace('SHA', 'sha')},{OTHER}",
            [TOKEN, OTHER],
            OTHER,
        ),
    ],
)
def test_a_setting_accepts_several_tokens_in_clear_or_hashed(
    tmp_path: Path, setting: str, accepted: list[str], first: str | None
) -> None:
    settings = Settings(
        data_dir=tmp_path, admin_token=SecretStr(setting), predict_token=SecretStr(setting)
    )
    known = credentials.credentials(settings)
    for role in ("admin", "predict"):
        digests = [one.digest for one in known if one.role == role]
        assert digests == [credentials.digest_of(one) for one in accepted]
    assert credentials.clear(settings.admin_token) == first
    assert credentials.credentials(credentials.hashed(settings)) == known
    assert not list(tmp_path.iterdir())
    kept = {**credentials.hashed(settings).model_dump(), **credentials.environment(settings)}
    values = [
        one.get_secret_value() if isinstance(one, SecretStr) else one for one in kept.values()
    ]
    for one in accepted:
        assert one not in repr(values)
        assert credentials.digest_of(one).hex() in repr(values)


def test_a_setting_of_hashes_has_no_token_in_clear(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, admin_token=SecretStr(credentials.hash_of(TOKEN)))
    with pytest.raises(ConflictError, match="only hashes"):
        credentials.admin_token(settings)


def token(settings: Settings) -> str:
    return credentials.admin_token(settings).get_secret_value()


def test_the_admin_token_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "not" / "there")
    made = token(settings)
    path = settings.data_dir / credentials.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == f"{made}\n"
    assert ACCEPTABLE.fullmatch(made)
    assert [token(settings) for _ in range(2)] == [made, made]
    assert [file.name for file in settings.data_dir.iterdir()] == [credentials.FILE]
    assert token(Settings(data_dir=tmp_path / "elsewhere")) != made


def test_threads_that_start_together_share_one_token(tmp_path: Path) -> None:
    for number in range(20):
        settings = Settings(data_dir=tmp_path / str(number))
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(token, [settings] * 8))) == 1
        assert [file.name for file in settings.data_dir.iterdir()] == [credentials.FILE]


def test_processes_that_start_together_share_one_token(tmp_path: Path) -> None:
    stores = [Settings(data_dir=tmp_path / str(number)) for number in range(10)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        made = list(pool.map(token, [store for store in stores for _ in range(2)]))
    assert made[::2] == made[1::2]
    assert made[::2] == [token(store) for store in stores]


def test_a_configured_token_takes_precedence_and_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token(Settings(data_dir=tmp_path / "with"))
    monkeypatch.setenv("PERCEPTD_ADMIN_TOKEN", TOKEN)
    assert token(Settings(data_dir=tmp_path / "with")) == TOKEN
    assert token(Settings(data_dir=tmp_path / "without")) == TOKEN
    assert not (tmp_path / "without").exists()
    monkeypatch.delenv("PERCEPTD_ADMIN_TOKEN")
    assert token(Settings(data_dir=tmp_path / "with")) == made


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"no-text-but-long-enough-\xff\n"])
def test_a_token_file_without_a_token_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / credentials.FILE).write_bytes(content)
    with pytest.raises(StoreError, match=credentials.FILE):
        token(Settings(data_dir=tmp_path))


def test_a_store_that_cannot_hold_the_token_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data folder cannot be used"):
        token(Settings(data_dir=tmp_path / "file" / "data"))
    (tmp_path / credentials.FILE).mkdir()
    with pytest.raises(StoreError, match="data folder cannot be used"):
        token(Settings(data_dir=tmp_path))


def test_a_server_accepts_the_token_of_its_store(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    client = serve(settings)
    made = (tmp_path / credentials.FILE).read_text().strip()
    assert problem(client.post("/jobs", json={"model": "dnn"})) == (401, "unauthorized")
    headers = {"Authorization": f"Bearer {made}"}
    assert client.post("/jobs", json={"model": "dnn"}, headers=headers).status_code == 202
    assert client.get("/jobs").status_code == 200, "reading is open where predictions are"
