import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from perceptd.models import registry, trainable
from perceptd.models.trainable import Trainable
from perceptd.service.errors import ConflictError, InvalidInputError, ModelNotFoundError
from perceptd.service.jobs.gate import Gate
from perceptd.service.jobs.planner import Planner
from perceptd.service.jobs.plans import DATASETS, ImportPlan, TrainPlan, plan_of
from perceptd.service.jobs.queue import Jobs
from perceptd.service.jobs.schemas import ImportCreate, JobCreate
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.service.jobs.playing import claimed, claims_of

DNN = PRETRAINED / "dnn"
SHIPPED = {one.architecture: one for one in trainable.shipped()}
SIGMOID = {"hidden": 4, "activation": "sigmoid"}
TANH = {"hidden": 6, "activation": "tanh"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_job_s=1234)


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    engine = db.connect(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def planner(database: Engine, settings: Settings) -> Planner:
    repository = Repository(database, settings.data_dir)
    repository.prepare()
    return Planner(repository, Feedback(database), Trainables(database), settings)


def altered(folder: Path, **changes: Any) -> Path:
    """A copy of the dnn checkpoint with changes to its meta."""
    shutil.copytree(DNN, folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))
    return folder


def described(**changes: Any) -> Trainable:
    """The dnn as a worker with a plug-in describes it."""
    return SHIPPED["dnn"].model_copy(update=changes)


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def plan(planner: Planner, model: str = "dnn", **request: Any) -> TrainPlan:
    return planner.plan_training(JobCreate(model=model, **request))


def plan_import(planner: Planner, model: str = "dnn", **request: Any) -> ImportPlan:
    return planner.plan_import(model, ImportCreate(**request), ".pt")


def refused(planner: Planner, **request: Any) -> list[str | int]:
    """Where the planner finds a mistake. The example in its error can be planned."""
    with pytest.raises(InvalidInputError) as caught:
        plan(planner, **request)
    (error,) = caught.value.errors
    assert error.expected
    assert error.got
    plan(planner, **caught.value.example)
    return error.loc


@pytest.mark.parametrize("model", registry.BUILT_IN)
@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_defaults_come_from_the_recipe_and_from_production(
    planner: Planner, model: str, recipe: str
) -> None:
    values = SHIPPED[model].recipes[recipe]
    assert plan(planner, model, recipe=recipe) == TrainPlan(
        architecture=model,
        recipe=recipe,
        dataset=None,
        config=planner.repository.version(model, 1).meta.config,
        epochs=values["epochs"],
        learning_rate=values["learning_rate"],
        batch_size=values["batch_size"],
        seed=values["seed"],
        start_from=None,
        feedback_until=None,
        gate=Gate(),
        greater_is_better=True,
        max_runtime_s=1234,
    )
    assert plan(planner, model) == plan(planner, model, recipe="reference")


def test_values_of_the_request_replace_defaults(planner: Planner) -> None:
    made = plan(planner, epochs=7, learning_rate=0.5, batch_size=9, seed=0, max_runtime_s=5.5)
    assert (made.epochs, made.learning_rate, made.batch_size, made.seed) == (7, 0.5, 9, 0)
    assert made.max_runtime_s == 5.5


def test_a_config_changes_that_of_production(planner: Planner, tmp_path: Path) -> None:
    assert plan(planner, config={"hidden": 8}).config == SIGMOID | {"hidden": 8}
    planner.repository.register(altered(tmp_path / "wider", config=TANH), promote=True)
    assert plan(planner).config == TANH
    assert plan(planner, config={"hidden": 8}).config == TANH | {"hidden": 8}


def test_a_training_starts_from_scratch_from_production_or_from_a_version(
    planner: Planner, tmp_path: Path
) -> None:
    planner.repository.register(altered(tmp_path / "wider", config=TANH))
    planner.repository.register(DNN, promote=True)
    for start_from, version in (("scratch", None), ("production", 3), (1, 1)):
        assert plan(planner, start_from=start_from).start_from == version
    from_wider = plan(planner, start_from=2)
    assert (from_wider.start_from, from_wider.config) == (2, TANH)
    planner.repository.point("dnn", PRODUCTION, 1)
    assert plan(planner, start_from="production").start_from == 1


def test_initial_weights_need_their_own_config(planner: Planner) -> None:
    assert plan(planner, start_from=1, config={"hidden": 4}).config == SIGMOID
    assert refused(planner, start_from=1, config={"hidden": 8}) == ["config"]
    assert refused(planner, start_from="production", config={"activation": "relu"}) == ["config"]


def test_feedback_is_used_up_to_its_newest_row(planner: Planner) -> None:
    assert plan(planner, include_feedback=True).feedback_until is None
    rows = np.zeros((2, 2), np.float32)
    planner.feedback.add("dnn", rows, ["0", "1"])
    planner.feedback.add("xor", rows, ["0", "1"])
    assert plan(planner, include_feedback=True).feedback_until == 2
    planner.feedback.add("dnn", rows, ["0", "1"])
    assert plan(planner, include_feedback=True).feedback_until == 6
    assert plan(planner).feedback_until is None


def test_a_data_set_is_a_named_one_or_a_file_of_the_store(
    planner: Planner, settings: Settings
) -> None:
    folder = settings.data_dir / DATASETS
    (folder / "deep").mkdir(parents=True)
    (folder / "folder.csv").mkdir()
    for name in ("mine.csv", "Other-1.2_3.npz", "text.txt", ".hidden.csv", "deep/er.csv"):
        (folder / name).write_text("")
    (settings.data_dir / "outside.csv").write_text("")

    for name in ("blobs", "circles", "xor", "mine.csv", "Other-1.2_3.npz"):
        assert plan(planner, dataset=name).dataset == name
        assert plan_import(planner, dataset=name).dataset == name
    for name in (
        *("", "mnist", "Circles", "text.txt", ".hidden.csv", "folder.csv", "absent.csv", "mine"),
        *("deep/er.csv", "../outside.csv", "/etc/passwd", "deep/../mine.csv", "mine.csv\n"),
        *("mine.csv\0", f"{settings.data_dir}/datasets/mine.csv", "a" * 500 + ".csv"),
    ):
        assert refused(planner, dataset=name) == ["dataset"], name
        with pytest.raises(InvalidInputError):
            plan_import(planner, dataset=name)


@pytest.mark.parametrize(
    ("request_", "loc"),
    [
        ({"recipe": "nope"}, ["recipe"]),
        ({"recipe": ""}, ["recipe"]),
        ({"config": {"hiden": 4}}, ["config", "hiden"]),
        ({"config": {"hidden": 4, "": 1}}, ["config", ""]),
        ({"config": {"hidden": 0}}, ["config", "hidden"]),
        ({"config": {"hidden": 4097}}, ["config", "hidden"]),
        ({"config": {"hidden": "4"}}, ["config", "hidden"]),
        ({"config": {"hidden": None}}, ["config", "hidden"]),
        ({"config": {"hidden": True}}, ["config", "hidden"]),
        ({"config": {"hidden": math.nan}}, ["config", "hidden"]),
        ({"config": {"activation": "step"}}, ["config", "activation"]),
        ({"model": "mnist-cnn", "config": {"channels": [32]}}, ["config", "channels"]),
        ({"model": "mnist-cnn", "config": {"channels": [32, 0]}}, ["config", "channels", 1]),
        ({"gate": Gate(metric="recall:7")}, ["gate", "metric"]),
        ({"gate": Gate(metric="")}, ["gate", "metric"]),
        ({"start_from": 9}, ["start_from"]),
    ],
)
def test_an_invalid_request_names_the_field(
    planner: Planner, request_: dict[str, Any], loc: list[str | int]
) -> None:
    assert refused(planner, **request_) == loc


def test_an_unknown_model_is_not_found(planner: Planner) -> None:
    with pytest.raises(ModelNotFoundError):
        plan(planner, "nope")


def test_the_metric_decides_whether_greater_is_better(planner: Planner) -> None:
    for choice in ("always", "never"):
        assert plan(planner, gate=choice).gate == choice
    for gate, greater in (
        (Gate(), True),
        (Gate(metric="loss"), False),
        (Gate(metric="recall:1", threshold=0.9), True),
        (Gate(metric="loss", greater_is_better=True), True),
        (Gate(metric="accuracy", greater_is_better=False), False),
    ):
        made = plan(planner, gate=gate)
        assert (made.gate, made.greater_is_better) == (gate, greater)


def test_the_newest_description_of_an_architecture_is_used(planner: Planner) -> None:
    slow = {**SHIPPED["dnn"].recipes["fast"], "epochs": 77}
    with_plug_in = described(
        metrics={"accuracy": True, "cost": False},
        recipes={**SHIPPED["dnn"].recipes, "slow": slow},
        datasets=["spirals"],
    )
    planner.trainables.write([*SHIPPED.values()])
    planner.trainables.write([with_plug_in])

    made = plan(planner, recipe="slow", dataset="spirals", gate=Gate(metric="cost"))
    assert (made.epochs, made.dataset, made.greater_is_better) == (77, "spirals", False)
    assert refused(planner, dataset="circles") == ["dataset"]
    assert refused(planner, gate=Gate(metric="f1_macro")) == ["gate", "metric"]
    assert planner.trainables.find("xor") == SHIPPED["xor"]
    assert planner.trainables.find("nope") is None

    planner.trainables.write([SHIPPED["dnn"]])
    assert refused(planner, gate=Gate(metric="cost")) == ["gate", "metric"]


def test_an_invalid_setting_of_a_plug_in_is_named(planner: Planner) -> None:
    known = SHIPPED["dnn"].config["properties"]
    rate = {"type": "number", "minimum": 0, "maximum": 1}
    properties = {**known, "rate": rate, "head": schema(width={"type": "integer"})}
    planner.trainables.write([described(config=schema(**properties))])
    right = {"rate": 0.5, "head": {"width": 3}}
    assert plan(planner, config=right).config == {**SIGMOID, **right}
    for number in (math.nan, math.inf, -math.inf):
        assert refused(planner, config={"rate": number}) == ["config", "rate"]
    assert refused(planner, config={"head": {"widht": 3}}) == ["config", "head", "widht"]


def test_a_setting_that_only_an_older_release_had_is_named(
    planner: Planner, tmp_path: Path
) -> None:
    older = altered(tmp_path / "older", config={**SIGMOID, "bias": True})
    planner.repository.register(older, promote=True)
    with pytest.raises(InvalidInputError) as caught:
        plan(planner)
    assert [error.loc for error in caught.value.errors] == [["config", "bias"]]


def test_an_architecture_that_no_worker_knows_cannot_be_trained(
    planner: Planner, tmp_path: Path
) -> None:
    spiral = altered(tmp_path / "spiral", architecture="spiral")
    planner.repository.register(spiral, "spiral")
    with pytest.raises(InvalidInputError, match="start a worker where a plug-in is installed"):
        plan(planner, "spiral")
    planner.trainables.write([described(architecture="spiral")])
    assert plan(planner, "spiral").architecture == "spiral"


def test_an_import_is_planned_with_its_file_type_and_gate(planner: Planner) -> None:
    request = ImportCreate(config={"hidden": 6}, gate=Gate(metric="loss"))
    assert planner.plan_import("dnn", request, ".pth") == ImportPlan(
        architecture="dnn",
        config={"hidden": 6},
        dataset=None,
        suffix=".pth",
        gate=Gate(metric="loss"),
        greater_is_better=False,
        max_runtime_s=1234,
    )
    new = plan_import(planner, "rings", architecture="dnn")
    assert (new.architecture, new.gate) == ("dnn", "never")


@pytest.mark.parametrize(
    ("model", "request_", "loc"),
    [
        ("dnn", {"architecture": "xor"}, ["architecture"]),
        ("dnn", {"config": {"hiden": 4}}, ["config", "hiden"]),
        ("dnn", {"gate": Gate(metric="nope")}, ["gate", "metric"]),
        ("rings", {}, ["architecture"]),
        ("rings", {"architecture": "nope"}, ["architecture"]),
    ],
)
def test_an_invalid_import_names_the_field(
    planner: Planner, model: str, request_: dict[str, Any], loc: list[str | int]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_import(planner, model, **request_)
    assert [error.loc for error in caught.value.errors] == [loc]


@pytest.mark.parametrize("name", ["Dnn", "", "../dnn", "a b"])
def test_an_import_under_an_invalid_name_is_refused(planner: Planner, name: str) -> None:
    with pytest.raises(ConflictError, match="no name for a model"):
        plan_import(planner, name, architecture="dnn")


def test_a_plan_survives_the_database(planner: Planner, database: Engine) -> None:
    gate = Gate(metric="loss", threshold=0.1 + 0.2, min_absolute_change=-1e-9)
    jobs = Jobs(database)
    training = plan(planner, learning_rate=0.1 + 0.2, seed=2**63 - 1, gate=gate)
    job = jobs.submit("train", "dnn", {}, training.model_dump(mode="json"))
    assert plan_of(jobs.get(job.id)) == training
    importing = plan_import(planner, gate="always")
    job = jobs.submit("import", "dnn", {}, importing.model_dump(mode="json"))
    assert plan_of(jobs.get(job.id)) == importing


def test_a_reproduction_has_the_plan_of_its_job_and_promotes_nothing(
    planner: Planner, database: Engine
) -> None:
    jobs, claims = Jobs(database), claims_of(database)
    made = plan(planner, seed=3, gate="always")
    number = jobs.submit("train", "dnn", {}, made.model_dump(mode="json")).id
    with pytest.raises(ConflictError, match="it is queued, without a version"):
        planner.plan_reproduction(jobs.get(number))

    job = claimed(claims)
    with claims.holding(job) as connection:
        claims.set_version(job, 2, connection)
        claims.succeed(job, "promoted", "asked for", connection)
    again = planner.plan_reproduction(jobs.get(number))
    assert again == made.model_copy(update={"reproduces": number, "gate": "never"})


def test_an_import_cannot_be_reproduced(planner: Planner, database: Engine) -> None:
    importing = plan_import(planner).model_dump(mode="json")
    job = Jobs(database).submit("import", "dnn", {}, importing)
    with pytest.raises(ConflictError, match="it is an import"):
        planner.plan_reproduction(job)
