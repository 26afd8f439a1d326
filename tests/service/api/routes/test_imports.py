from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service.jobs.uploads import JOBS
from perceptd.service.settings import Settings
from tests.server import running
from tests.service.admin import TOKENS, as_admin, guarded, problem

WEIGHTS = b"\x80weights\r\n\0--"
FILE = {"file": ("weights.pt", WEIGHTS)}
LIMIT = 100_000
DEEP = '{"a":' * 15_000
Serve = Callable[[Settings], httpx.Client]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return guarded(tmp_path_factory.mktemp("data"), max_body_bytes=LIMIT)


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield as_admin(client)


@pytest.fixture
def admin(server: httpx.Client, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server without stored uploads."""
    yield server
    for name in kept(settings):
        (settings.data_dir / JOBS / name).unlink()


def kept(settings: Settings) -> set[str]:
    """The names of the files in the folder of jobs."""
    return {path.name for path in (settings.data_dir / JOBS).glob("*")}


def upload(client: httpx.Client, model: str = "dnn", **form: Any) -> httpx.Response:
    return client.post(f"/models/{model}/versions", **{"files": FILE, **form})


def newest(client: httpx.Client) -> int:
    jobs = client.get("/jobs", params={"limit": 1}).json()["jobs"]
    return jobs[0]["id"] if jobs else 0


@pytest.mark.parametrize(
    ("model", "name", "fields", "plan"),
    [
        ("dnn", "weights.pt", {}, {"architecture": "dnn", "suffix": ".pt", "gate": "never"}),
        ("dnn", "W.SafeTensors", {"gate": "always"}, {"suffix": ".safetensors", "gate": "always"}),
        ("dnn", "a/b/c.d.pth", {"architecture": "dnn"}, {"suffix": ".pth", "config": {}}),
        ("rings", "w.pt", {"architecture": "dnn"}, {"architecture": "dnn"}),
        ("dnn", "w.pt", {"config": ' {"hidden": 9}'}, {"config": {"hidden": 9}}),
        ("dnn", "w.pt", {"dataset": "blobs"}, {"dataset": "blobs"}),
        (
            "dnn",
            "w.pt",
            {"gate": '{"metric": "loss", "threshold": 0.5}'},
            {
                "gate": {
                    "metric": "loss",
                    "min_absolute_change": 0,
                    "threshold": 0.5,
                    "greater_is_better": None,
                },
                "greater_is_better": False,
            },
        ),
    ],
)
def test_an_upload_becomes_a_job_and_a_file_for_it(
    admin: httpx.Client,
    settings: Settings,
    model: str,
    name: str,
    fields: dict[str, str],
    plan: dict[str, Any],
) -> None:
    response = upload(admin, model, files={"file": (name, WEIGHTS)}, data=fields)
    assert response.status_code == 202, response.text
    job = admin.get(response.headers["Location"]).json()
    assert (job["kind"], job["model"], job["status"]) == ("import", model, "queued")
    assert plan.items() <= job["plan"].items()
    assert job["request"]["file"] == name.rpartition("/")[2]
    assert kept(settings) == {job["plan"]["upload"]}
    path = settings.data_dir / JOBS / job["plan"]["upload"]
    assert path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "form",
    [
        {"files": None},
        {"files": None, "content": WEIGHTS},
        {"files": None, "json": {}},
        {"files": None, "data": {"architecture": "dnn"}},
        {
            "files": None,
            "content": WEIGHTS,
            "headers": {"Content-Type": "application/octet-stream"},
        },
    ],
)
def test_a_body_that_is_no_form_is_refused(
    admin: httpx.Client, settings: Settings, form: dict[str, Any]
) -> None:
    assert problem(upload(admin, **form)) == (415, "unsupported_media_type")
    assert kept(settings) == set()


REFUSED: list[tuple[str, dict[str, Any], Sequence[str | int]]] = [
    ("dnn", {"files": {"other": FILE["file"]}}, ["file"]),
    ("dnn", {"files": {"file": (None, WEIGHTS)}}, ["file"]),
    *(
        ("dnn", {"files": {"file": (name, WEIGHTS)}}, ["file"])
        for name in ("weights.txt", "weights.pt.zip", "weights", ".pt")
    ),
    ("dnn", {"files": {**FILE, "gate": ("gate.json", b"{}")}}, ["body"]),
    ("dnn", {"files": [("file", FILE["file"]), ("file", FILE["file"])]}, ["body"]),
    ("dnn", {"data": {"epochs": "3"}}, ["epochs"]),
    *(
        ("dnn", {"data": {"config": config}}, ["config"])
        for config in ("", "{", "[]", "hidden=4", '{"hidden": 4', '{"hidden": 4}}', DEEP)
    ),
    ("dnn", {"data": {"config": '{"hidden": ' + "9" * 5000 + "}"}}, ["config"]),
    ("dnn", {"data": {"config": '{"\\ud800": 4}'}}, ["config"]),
    ("dnn", {"data": {"config": '{"hidden": NaN}'}}, ["config", "hidden"]),
    ("dnn", {"data": {"gate": "maybe"}}, ["gate"]),
    ("dnn", {"data": {"gate": '{"metric": "nope"}'}}, ["gate", "metric"]),
    ("dnn", {"data": {"gate": '{"threshold": "0.9"}'}}, ["gate", "threshold"]),
    ("dnn", {"data": {"gate": '{"threshold": NaN}'}}, ["gate", "threshold"]),
    ("dnn", {"data": {"dataset": "../a.csv"}}, ["dataset"]),
    ("rings", {"data": {"architecture": ""}}, ["architecture"]),
    ("dnn", {"headers": {"Idempotency-Key": "k" * 256}}, ["header", "Idempotency-Key"]),
]


@pytest.mark.parametrize(("model", "form", "loc"), REFUSED)
def test_an_invalid_upload_names_the_field_and_stores_nothing(
    admin: httpx.Client,
    settings: Settings,
    model: str,
    form: dict[str, Any],
    loc: list[str | int],
) -> None:
    before = newest(admin)
    response = upload(admin, model, **form)
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"][0]["loc"][: len(loc)] == loc
    assert len(response.text) < 5000
    assert kept(settings) == set()
    assert newest(admin) == before


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_broken_form_is_refused(
    admin: httpx.Client, settings: Settings, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = upload(admin, files=None, content=b"--y\r\n", headers=headers)
    assert problem(response) == (422, "invalid_input")
    assert kept(settings) == set()


def test_weights_over_the_limit_are_refused(admin: httpx.Client, settings: Settings) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="w.pt"\r\n\r\n'
        for _ in range(LIMIT // 1000 + 1):
            yield b"w" * 1000
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    large = {"file": ("weights.pt", b"w" * LIMIT)}
    assert problem(upload(admin, files=large)) == (413, "body_too_large")
    assert problem(upload(admin, files=None, content=chunks(), headers=headers))[0] == 413
    assert kept(settings) == set()


def test_an_invalid_model_name_is_refused(admin: httpx.Client, settings: Settings) -> None:
    response = upload(admin, "no%00pe", data={"architecture": "dnn"})
    assert problem(response) == (409, "conflict")
    assert kept(settings) == set()


def test_the_same_key_and_upload_return_one_job_with_one_file(
    admin: httpx.Client, settings: Settings
) -> None:
    headers = {"Idempotency-Key": "an upload"}
    first = upload(admin, headers=headers)
    again = upload(admin, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert len(kept(settings)) == 1

    other_file = {"file": ("weights.pt", WEIGHTS + b"!")}
    for response in (
        upload(admin, headers=headers, files=other_file),
        upload(admin, headers=headers, data={"gate": "always"}),
        upload(admin, "xor", headers=headers),
        admin.post("/jobs", headers=headers, json={"model": "dnn"}),
    ):
        assert problem(response) == (409, "conflict")
    assert len(kept(settings)) == 1


def test_uploads_of_one_key_at_the_same_moment_keep_one_file(
    admin: httpx.Client, settings: Settings
) -> None:
    def ask(_: int) -> Any:
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as client:
            return upload(client, headers={"Idempotency-Key": "at once"}).json()["id"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(kept(settings)) == 1


@pytest.mark.database
def test_unusual_text_in_a_form_is_handled_by_both_databases(
    serve: Serve, store_settings: Settings
) -> None:
    client = as_admin(serve(store_settings.model_copy(update=TOKENS)))
    for architecture in ("a\0b", "\0", "数" * 1000):
        response = upload(client, "rings", data={"architecture": architecture})
        assert problem(response) == (422, "invalid_input")
    odd = {"file": ("w\u6570 '\"\\.pt", WEIGHTS)}
    assert upload(client, files=odd, data={"gate": "never"}).status_code == 202
    assert len(kept(store_settings)) == 1


def test_an_upload_that_cannot_be_written_makes_no_job(serve: Serve, tmp_path: Path) -> None:
    client = as_admin(serve(guarded(tmp_path)))
    (tmp_path / JOBS).write_text("a file where the folder should be")
    response = upload(client)
    assert problem(response) == (503, "store_unavailable")
    assert newest(client) == 0
