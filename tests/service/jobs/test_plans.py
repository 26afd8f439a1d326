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
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.gate import Gate
from perceptd.service.jobs.plans import DATASETS, ImportPlan, Planner, TrainPlan, plan_of
from perceptd.service.jobs.queue import Jobs
from perceptd.service.jobs.schemas import ImportCreate, JobCreate
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import PRETRAINED, Repository

DNN = PRETRAINED / "dnn"
SHIPPED = {one.architecture: one for one in trainable.shipped()}


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
    """A copy of the dnn checkpoint whose meta says something else."""
    shutil.copytree(DNN, folder)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))
    return folder


def plan(planner: Planner, model: str = "dnn", **asked: Any) -> TrainPlan:
    return planner.plan_training(JobCreate(model=model, **asked))


def refused(planner: Planner, **asked: Any) -> list[str | int]:
    """Where the planner says that a request is wrong; the example it gives can be planned."""
    with pytest.raises(InvalidInputError) as wrong:
        plan(planner, **asked)
    (error,) = wrong.value.errors
    assert error.expected
    assert error.got
    plan(planner, **wrong.value.example)
    return error.loc


@pytest.mark.parametrize("model", registry.BUILT_IN)
@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_what_is_left_out_comes_from_the_recipe_and_from_production(
    planner: Planner, model: str, recipe: str
) -> None:
    made, values = plan(planner, model, recipe=recipe), SHIPPED[model].recipes[recipe]
    assert made == TrainPlan(
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


def test_the_reference_recipe_is_the_default(planner: Planner) -> None:
    assert plan(planner) == plan(planner, recipe="reference")


def test_what_is_given_counts_also_where_it_is_zero(planner: Planner) -> None:
    made = plan(planner, epochs=7, learning_rate=0.5, batch_size=9, seed=0, max_runtime_s=5.5)
    assert (made.epochs, made.learning_rate, made.batch_size, made.seed) == (7, 0.5, 9, 0)
    assert made.max_runtime_s == 5.5
    assert plan(planner, "xor", dataset="circles").dataset == "circles"


def test_a_config_is_a_change_to_that_of_production(planner: Planner, tmp_path: Path) -> None:
    assert plan(planner, config={"hidden": 8}).config == {"hidden": 8, "activation": "sigmoid"}
    config = {"hidden": 6, "activation": "tanh"}
    planner.repository.register(altered(tmp_path / "wider", config=config), promote=True)
    assert plan(planner).config == config
    assert plan(planner, config={"hidden": 8}).config == {"hidden": 8, "activation": "tanh"}


def test_a_training_starts_from_scratch_from_production_or_from_a_version(
    planner: Planner, tmp_path: Path
) -> None:
    config = {"hidden": 6, "activation": "tanh"}
    planner.repository.register(altered(tmp_path / "wider", config=config))
    planner.repository.register(DNN, promote=True)
    assert plan(planner).start_from is None
    assert plan(planner, start_from="scratch").start_from is None
    assert plan(planner, start_from="production").start_from == 3
    assert plan(planner, start_from=1).start_from == 1
    from_wider = plan(planner, start_from=2)
    assert (from_wider.start_from, from_wider.config) == (2, config)
    planner.repository.point("dnn", PRODUCTION, 1)
    assert plan(planner, start_from="production").start_from == 1


def test_weights_are_started_from_in_their_own_settings_only(planner: Planner) -> None:
    assert plan(planner, start_from=1, config={"hidden": 4}).config["hidden"] == 4
    assert refused(planner, start_from=1, config={"hidden": 8}) == ["config"]
    assert refused(planner, start_from="production", config={"activation": "relu"}) == ["config"]
    assert refused(planner, start_from=2) == ["start_from"]


def test_feedback_is_taken_up_to_the_newest_row_of_that_moment(planner: Planner) -> None:
    assert plan(planner, include_feedback=True).feedback_until is None
    rows = np.zeros((2, 2), np.float32)
    planner.feedback.add("dnn", rows, ["0", "1"])
    planner.feedback.add("xor", rows, ["0", "1"])
    made = plan(planner, include_feedback=True)
    planner.feedback.add("dnn", rows, ["0", "1"])
    assert made.feedback_until == 2
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
        assert planner.plan_import("dnn", ImportCreate(dataset=name), ".pt").dataset == name
    for name in (
        *("", "mnist", "Circles", "text.txt", ".hidden.csv", "folder.csv", "absent.csv", "mine"),
        *("deep/er.csv", "../outside.csv", "/etc/passwd", "deep/../mine.csv", "mine.csv\n"),
        *("mine.csv\0", f"{settings.data_dir}/datasets/mine.csv", "a" * 500 + ".csv"),
    ):
        assert refused(planner, dataset=name) == ["dataset"], name
        with pytest.raises(InvalidInputError):
            planner.plan_import("dnn", ImportCreate(dataset=name), ".pt")


@pytest.mark.parametrize(
    ("asked", "loc"),
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
        ({"gate": Gate(metric="recall:7")}, ["gate", "metric"]),
        ({"gate": Gate(metric="")}, ["gate", "metric"]),
        ({"start_from": 9}, ["start_from"]),
    ],
)
def test_what_the_model_cannot_do_is_refused_with_its_place(
    planner: Planner, asked: dict[str, Any], loc: list[str | int]
) -> None:
    assert refused(planner, **asked) == loc


@pytest.mark.parametrize(
    ("config", "loc"),
    [
        ({"channels": [32]}, ["config", "channels"]),
        ({"channels": [32, 64, 128]}, ["config", "channels"]),
        ({"channels": [32, 0]}, ["config", "channels", 1]),
        ({"channels": 32}, ["config", "channels"]),
    ],
)
def test_a_wrong_part_of_a_setting_is_named(
    planner: Planner, config: dict[str, Any], loc: list[str | int]
) -> None:
    assert refused(planner, model="mnist-cnn", config=config) == loc


def test_a_model_that_is_not_there_is_told(planner: Planner) -> None:
    with pytest.raises(ModelNotFoundError):
        plan(planner, "nope")


def test_the_gate_is_kept_and_knows_which_way_its_metric_is_better(planner: Planner) -> None:
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


def described(**changes: Any) -> Trainable:
    """The dnn as a worker with a plug-in describes it."""
    return SHIPPED["dnn"].model_copy(update=changes)


def test_metrics_recipes_and_data_sets_of_a_plug_in_are_known_once_a_worker_said_so(
    planner: Planner,
) -> None:
    assert refused(planner, gate=Gate(metric="cost")) == ["gate", "metric"]
    slow = {**SHIPPED["dnn"].recipes["fast"], "epochs": 77}
    with_plug_in = described(
        metrics={"accuracy": True, "cost": False},
        recipes={**SHIPPED["dnn"].recipes, "slow": slow},
        datasets=["spirals"],
    )
    planner.trainables.write([with_plug_in])

    made = plan(planner, recipe="slow", dataset="spirals", gate=Gate(metric="cost"))
    assert (made.epochs, made.dataset, made.greater_is_better) == (77, "spirals", False)
    assert refused(planner, dataset="circles") == ["dataset"]
    assert refused(planner, gate=Gate(metric="f1_macro")) == ["gate", "metric"]
    assert plan(planner, "xor", gate=Gate(metric="f1_macro")), "the others are as they were"

    planner.trainables.write([SHIPPED["dnn"]])
    assert refused(planner, gate=Gate(metric="cost")) == ["gate", "metric"]


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def with_schema(planner: Planner, **properties: Any) -> None:
    known = SHIPPED["dnn"].config["properties"]
    planner.trainables.write([described(config=schema(**known, **properties))])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_setting_that_is_no_number_is_refused(planner: Planner, number: float) -> None:
    with_schema(planner, rate={"type": "number", "minimum": 0, "maximum": 1})
    assert plan(planner, config={"rate": 0.5}).config["rate"] == 0.5
    assert refused(planner, config={"rate": number}) == ["config", "rate"]


def test_an_unknown_setting_inside_another_is_named(planner: Planner) -> None:
    with_schema(planner, head=schema(width={"type": "integer"}))
    assert plan(planner, config={"head": {"width": 3}}).config["head"] == {"width": 3}
    assert refused(planner, config={"head": {"widht": 3}}) == ["config", "head", "widht"]


def test_a_setting_that_only_an_older_release_had_is_named(
    planner: Planner, tmp_path: Path
) -> None:
    config = {"hidden": 4, "activation": "sigmoid", "bias": True}
    planner.repository.register(altered(tmp_path / "older", config=config), promote=True)
    with pytest.raises(InvalidInputError) as wrong:
        plan(planner)
    assert [error.loc for error in wrong.value.errors] == [["config", "bias"]]


def test_an_architecture_that_no_worker_knows_cannot_be_trained(
    planner: Planner, tmp_path: Path
) -> None:
    spiral = altered(tmp_path / "spiral", architecture="spiral")
    planner.repository.register(spiral, "spiral")
    with pytest.raises(InvalidInputError, match="start a worker where a plug-in is installed"):
        plan(planner, "spiral")
    with pytest.raises(InvalidInputError, match="start a worker where a plug-in is installed"):
        planner.plan_import("new", ImportCreate(architecture="spiral"), ".pt")
    planner.trainables.write([described(architecture="spiral")])
    assert plan(planner, "spiral").architecture == "spiral"


def test_an_import_names_its_file_and_how_it_is_judged(planner: Planner) -> None:
    asked = ImportCreate(config={"hidden": 6}, gate=Gate(metric="loss"))
    assert planner.plan_import("dnn", asked, ".pth") == ImportPlan(
        architecture="dnn",
        config={"hidden": 6},
        dataset=None,
        suffix=".pth",
        gate=Gate(metric="loss"),
        greater_is_better=False,
        max_runtime_s=1234,
    )
    new = planner.plan_import("rings", ImportCreate(architecture="dnn"), ".pt")
    assert (new.architecture, new.gate) == ("dnn", "never")


@pytest.mark.parametrize(
    ("model", "asked", "loc"),
    [
        ("dnn", {"architecture": "xor"}, ["architecture"]),
        ("dnn", {"config": {"hiden": 4}}, ["config", "hiden"]),
        ("dnn", {"config": {"hidden": 0}}, ["config", "hidden"]),
        ("dnn", {"gate": Gate(metric="nope")}, ["gate", "metric"]),
        ("rings", {}, ["architecture"]),
        ("rings", {"architecture": "nope"}, ["architecture"]),
    ],
)
def test_an_import_that_cannot_be_done_is_refused(
    planner: Planner, model: str, asked: dict[str, Any], loc: list[str | int]
) -> None:
    with pytest.raises(InvalidInputError) as wrong:
        planner.plan_import(model, ImportCreate(**asked), ".pt")
    assert [error.loc for error in wrong.value.errors] == [loc]


def test_an_import_under_a_name_that_is_none_is_refused(planner: Planner) -> None:
    for name in ("Dnn", "", "../dnn", "a b"):
        with pytest.raises(ConflictError, match="no name for a model"):
            planner.plan_import(name, ImportCreate(architecture="dnn"), ".pt")


def test_a_plan_comes_out_of_the_table_as_it_went_in(planner: Planner, database: Engine) -> None:
    gate = Gate(metric="loss", threshold=0.1 + 0.2, min_absolute_change=-1e-9)
    made = plan(planner, learning_rate=0.1 + 0.2, seed=2**63 - 1, gate=gate)
    jobs = Jobs(database)
    job = jobs.submit("train", "dnn", {}, made.model_dump(mode="json"))
    assert plan_of(jobs.get(job.id)) == made
    brought = planner.plan_import("dnn", ImportCreate(gate="always"), ".pt")
    job = jobs.submit("import", "dnn", {}, brought.model_dump(mode="json"))
    assert plan_of(jobs.get(job.id)) == brought


def test_a_training_is_done_again_by_its_own_plan_and_promotes_nothing(
    planner: Planner, database: Engine
) -> None:
    jobs, claims = Jobs(database), Claims(database, "worker", 60, 3)
    made = plan(planner, seed=3, gate="always")
    number = jobs.submit("train", "dnn", {}, made.model_dump(mode="json")).id
    with pytest.raises(ConflictError, match="it is queued, without a version"):
        planner.plan_reproduction(jobs.get(number))

    job = claims.claim()
    assert job
    with claims.holding(job) as connection:
        claims.set_version(job, 2, connection)
        claims.succeed(job, "promoted", "asked for", connection)
    again = planner.plan_reproduction(jobs.get(number))
    assert again == made.model_copy(update={"reproduces": number, "gate": "never"})


def test_an_import_cannot_be_done_again(planner: Planner, database: Engine) -> None:
    brought = planner.plan_import("dnn", ImportCreate(), ".pt").model_dump(mode="json")
    job = Jobs(database).submit("import", "dnn", {}, brought)
    with pytest.raises(ConflictError, match="it is an import"):
        planner.plan_reproduction(job)


def test_what_a_worker_says_replaces_what_was_known_and_only_that(planner: Planner) -> None:
    planner.trainables.write(trainable.shipped())
    planner.trainables.write([described(datasets=[])])
    for architecture, one in SHIPPED.items():
        found = planner.trainables.find(architecture)
        assert found == (described(datasets=[]) if architecture == "dnn" else one)
    assert planner.trainables.find("nope") is None
