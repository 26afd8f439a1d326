import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from perceptd.models.networks.mnist import drawn_seven
from perceptd.service.auth import credentials
from perceptd.service.commands.asking import token_for
from perceptd.service.commands.common import opened_store
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import PRETRAINED
from tests.command_line import Outcome, perceptd

NO_SERVER = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the shipped models."""
    folder = tmp_path_factory.mktemp("data")
    with opened_store(Settings(data_dir=folder)):
        return folder


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).line([(50, 40), (140, 40), (90, 160)], fill=0, width=16, joint="curve")
    image.save(path)
    return path


def test_predict_prints_the_answer_and_a_bar_per_class(data_dir: Path, seven: Path) -> None:
    result = perceptd("predict", "mnist-cnn", seven, data_dir=data_dir)
    first, *bars = result.stdout.splitlines()
    assert result.exit_code == 0, result.stderr
    assert first == "7  (mnist-cnn version 1)"
    assert [line.split()[0] for line in bars] == list("0123456789")
    assert bars[7].count("█") > 20


def test_predict_accepts_negative_numbers(data_dir: Path) -> None:
    result = perceptd("predict", "xor", "-1,1", "--json", data_dir=data_dir)
    answer = json.loads(result.stdout)
    assert (answer["model"], answer["version"], answer["label"]) == ("xor", 1, "1")
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_predict_accepts_a_picture_as_numbers(data_dir: Path) -> None:
    numbers = ",".join(f"{pixel / 255:.3f}" for row in drawn_seven() for pixel in row)
    result = perceptd("predict", "mnist-cnn", numbers, "--json", data_dir=data_dir)
    assert json.loads(result.stdout)["label"] == "7"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["predict", "dn", "1,2"], "; did you mean dnn?"),
        (["predict", "dnn", "1,2,3"], "expected an array of 2"),
        (["predict", "dnn", "absent.png"], "this works: perceptd predict dnn 0.1,-0.2"),
        (["predict", "dnn", "1,nan"], "finite"),
        (["predict", "dnn", "1,2", "--version", "9"], "dnn has no version 9"),
        (["predict", "mnist-cnn", __file__], "PNG or JPEG"),
        (["predict", "dnn", __file__], "takes numbers, not pictures"),
        (["models", "add", "absent"], "meta.json cannot be read"),
        (
            ["models", "promote", "dnn", "1", "--url", NO_SERVER],
            f"no server answers at {NO_SERVER}: ",
        ),
        (["models", "rollback", "dnn", "--url", "there"], "'there' is not the address of a server"),
        (["jobs", "follow", "1", "--url", NO_SERVER], f"no server answers at {NO_SERVER}: "),
    ],
)
def test_a_mistake_ends_in_one_sentence(data_dir: Path, args: list[str], told: str) -> None:
    result = perceptd(*args, data_dir=data_dir, PERCEPTD_ADMIN_TOKEN="of-another-server")
    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_models_lists_versions_and_add_makes_one(data_dir: Path) -> None:
    added = perceptd("models", "add", PRETRAINED / "dnn", "--promote", data_dir=data_dir)
    assert added.stdout == f"dnn version 2, production, in {data_dir}\n"
    named = perceptd("models", "add", PRETRAINED / "dnn", "--name", "rings", data_dir=data_dir)
    assert named.stdout == f"rings version 1, production, in {data_dir}\n"

    listed = perceptd("models", "list", data_dir=data_dir).stdout.splitlines()
    rows = {tuple(line.split()[:3]) for line in listed}
    assert {("dnn", "2", "production"), ("dnn", "1", "previous")} <= rows
    assert ("rings", "1", "production") in rows


def test_promote_and_rollback_change_what_a_running_server_answers(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    server = serve(Settings(data_dir=tmp_path))
    url = str(server.base_url)

    def models(*args: str) -> Outcome:
        return perceptd("models", *args, "--url", url, data_dir=tmp_path)

    def production() -> int:
        version: int = server.get("/models/dnn").json()["version"]
        return version

    none = models("rollback", "dnn")
    assert (none.exit_code, none.stderr) == (
        1,
        "Error: dnn has had no other version in production\n",
    )
    perceptd("models", "add", PRETRAINED / "dnn", data_dir=tmp_path)

    assert models("promote", "dnn", "2").stdout == "dnn version 2, production\n"
    assert production() == 2
    assert models("rollback", "dnn").stdout == "dnn version 1, production\n"
    assert production() == 1
    again = json.loads(models("rollback", "dnn", "--json").stdout)
    assert (again["version"], again["aliases"]) == (2, ["production"])
    assert models("promote", "dnn", "77").stderr == "Error: dnn has no version 77\n"
    assert models("promote", "dn", "1").stderr.endswith("; did you mean dnn?\n")


def test_import_uploads_weights_with_the_given_options(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    server = serve(Settings(data_dir=tmp_path))
    weights = PRETRAINED / "dnn" / "model.safetensors"
    options = ["--architecture", "dnn", "--set", "hidden=4", "--gate", "accuracy", "--json"]
    imported: list[str | Path] = ["models", "import", "rings", weights]
    imported += ["--url", str(server.base_url)]
    job = json.loads(perceptd(*imported, *options, data_dir=tmp_path).stdout)
    assert (job["kind"], job["model"], job["status"]) == ("import", "rings", "queued")
    assert job["request"].items() >= {"file": weights.name, "config": {"hidden": 4}}.items()
    assert job["request"]["gate"]["metric"] == "accuracy"

    refused = perceptd(*imported, "--architecture", "rnn", data_dir=tmp_path)
    assert refused.exit_code == 1
    assert "architecture: expected " in refused.stderr
    assert 'got "rnn"' in refused.stderr
    assert (
        f"this works: perceptd models import rings {weights} --architecture dnn" in refused.stderr
    )
    assert "curl" not in refused.stderr

    (tmp_path / "weights.txt").touch()
    imported[3] = tmp_path / "weights.txt"
    refused = perceptd(*imported, "--architecture", "dnn", data_dir=tmp_path)
    assert "file: expected a file that ends in .pt or .pth or .safetensors" in refused.stderr
    assert "this works" not in refused.stderr  # no command works with this file


@pytest.mark.parametrize("command", [["jobs", "cancel", "1"], ["models", "promote", "dnn", "1"]])
def test_a_change_without_a_token_says_where_to_get_one_and_makes_none(
    tmp_path: Path, command: list[str]
) -> None:
    result = perceptd(*command, "--url", NO_SERVER, data_dir=tmp_path)
    assert result.exit_code == 1
    assert (
        f"the admin token of the server at {NO_SERVER}: set PERCEPTD_ADMIN_TOKEN" in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_token_of_the_default_store_is_sent_to_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    token = credentials.admin_token(Settings()).get_secret_value()
    here, elsewhere = "http://localhost:8000", "http://192.0.2.1:8000"
    assert token_for(here, Settings(), changes=True) == token
    assert token_for(elsewhere, Settings(), changes=False) is None
    assert token_for(elsewhere, Settings(data_dir=Path("data")), changes=True) == token


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"PERCEPTD_PORT": "none"}, "PERCEPTD_PORT"),
        ({"PERCEPTD_HOST": "0.0.0.0"}, "PERCEPTD_OPEN_PREDICTIONS=1"),
        ({"PERCEPTD_DEVICE": "gpu"}, "PERCEPTD_DEVICE"),
        ({"PERCEPTD_DATABASE_URL": "mysql://me:s3cret@db"}, "PERCEPTD_DATABASE_URL"),
        ({"PERCEPTD_PREDICT_TOKEN": "s3cret"}, "PERCEPTD_PREDICT_TOKEN"),
    ],
)
def test_a_bad_setting_ends_in_a_sentence(data_dir: Path, env: dict[str, str], told: str) -> None:
    result = perceptd("serve", data_dir=data_dir, **{"PERCEPTD_PORT": "0", **env})
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [["models", "list"], ["token", "list"], ["token", "revoke", "me"], ["predict", "dnn", "1,2"]],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_command_that_reads_creates_no_store(
    tmp_path: Path, command: list[str], exists: bool
) -> None:
    folder = tmp_path / "data"
    if exists:
        folder.mkdir()
    result = perceptd(*command, data_dir=folder)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: --data-dir (PERCEPTD_DATA_DIR): there is no store at {folder}: "
        "`perceptd serve` creates one\n",
    )
    assert list(tmp_path.rglob("*")) == ([folder] if exists else [])


@pytest.mark.parametrize("command", [["models", "list"], ["predict", "dnn", "0,0"]])
def test_a_file_that_is_no_database_is_named_with_its_setting(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / db.FILE).write_text("no database")

    result = perceptd(*command, data_dir=tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: --data-dir (PERCEPTD_DATA_DIR): the database cannot be used: "
        f"file is not a database ({tmp_path})\n"
    )


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["token"], ["models", "list"]])
def test_a_file_is_not_taken_for_the_folder_of_a_store(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    result = perceptd(*command, data_dir=file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is not a folder" in result.stderr


def test_a_wrong_checkpoint_creates_no_store(tmp_path: Path) -> None:
    result = perceptd("models", "add", tmp_path / "absent", data_dir=tmp_path / "data")

    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_models_says_how_to_add_some(tmp_path: Path) -> None:
    perceptd("token", "create", "reader", "--role", "predict", data_dir=tmp_path)

    listed = perceptd("models", "list", data_dir=tmp_path)
    asked = perceptd("predict", "dnn", "0,0", data_dir=tmp_path)

    assert (listed.exit_code, asked.exit_code) == (0, 1)
    for result in (listed, asked):
        assert "`perceptd serve` adds the shipped ones" in result.stderr


def test_a_store_that_cannot_be_used_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = "postgresql+psycopg://me:s3cret@127.0.0.1:1/db"
    for result in (
        perceptd("serve", data_dir=tmp_path / "file" / "data"),
        perceptd("serve", data_dir=tmp_path, PERCEPTD_DATABASE_URL=url),
    ):
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1
        assert "s3cret" not in result.stderr
