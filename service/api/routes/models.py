"""`/models`: the models that serve, their versions, plots and aliases."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response

from perceptd.models.checkpoint import BOUNDARY_DATA
from perceptd.service.api.deps import (
    EngineDep,
    GuardedRoute,
    PlannerDep,
    RepositoryDep,
    SettingsDep,
    require_admin_token,
    require_json,
    require_predict_token,
)
from perceptd.service.api.media import JSON_TYPE
from perceptd.service.api.operations import BODY, STORED_VERSION, documented, links
from perceptd.service.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    PlotNotFoundError,
    StoreError,
    UnauthorizedError,
)
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.jobs.schemas import TrainableModel
from perceptd.service.schemas.models import (
    AliasPut,
    ModelPublic,
    ModelsPublic,
    PlaneData,
    VersionDetail,
    VersionPublic,
    VersionsPublic,
)
from perceptd.service.schemas.requests import example_of
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.versions import Version

router = APIRouter(
    tags=["models"],
    route_class=GuardedRoute,
    dependencies=[Depends(require_predict_token)],
    responses=documented(UnauthorizedError),
)
of_a_model = documented(ModelNotFoundError, InvalidInputError, ModelUnavailableError)
of_a_version = documented(*STORED_VERSION)
of_a_plot = documented(*STORED_VERSION, PlotNotFoundError)

ModelName = Annotated[str, Path(examples=["mnist-cnn"])]
VersionNumber = Annotated[int, Path(ge=1, examples=[1])]
Alias = Annotated[str, Path(examples=[PRODUCTION])]
Plot = Literal["loss", "boundary", "predictions"]
PlotFormat = Literal["svg", "png"]
PLOT_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
PLOT_HEADERS = {
    "Cache-Control": "private, no-cache",
    # An SVG opened as a page runs no script, even from a hostile checkpoint.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}


def version_links(place: str) -> dict[str, Any]:
    """Links from a response that has a version at `place`, a JSON pointer."""
    model = {"model": f"$response.body#{place}/model"}
    version = {**model, "version": f"$response.body#{place}/version"}
    return {
        **links(model, "get_model_models__model__get", "list_versions_models__model__versions_get"),
        **links(
            version,
            "get_version_models__model__versions__version__get",
            "version_metadata_v2_models__model__versions__version__get",
            "version_ready_v2_models__model__versions__version__ready_get",
        ),
    }


def model_public(loaded: LoadedVersion, settings: Settings) -> ModelPublic:
    spec = loaded.spec
    return ModelPublic(
        name=loaded.model,
        description=spec.description,
        architecture=loaded.meta.architecture,
        version=loaded.version,
        labels=list(spec.labels),
        input=spec.input,
        example=example_of(loaded.model, spec),
        metrics=loaded.meta.metrics,
        device=loaded.runtime.device,
        runtime=loaded.runtime.name,
        max_rows=settings.max_rows,
    )


def version_fields(version: Version) -> dict[str, Any]:
    """The fields that a version has both in a list and alone."""
    return {
        "model": version.model,
        "version": version.version,
        "aliases": list(version.aliases),
        "created_at": version.created_at,
        "sha256": version.sha256,
        "parent": version.parent,
        "job": version.job,
        "metrics": version.meta.metrics,
    }


@router.get("/models")
async def list_models(engine: EngineDep, settings: SettingsDep) -> ModelsPublic:
    """List the models that serve, each with its input and a valid request body."""
    return ModelsPublic(
        models=[model_public(loaded, settings) for loaded in engine.production.values()],
        failures=engine.failures,
    )


@router.get("/models/{model}", responses=of_a_model)
async def get_model(model: ModelName, engine: EngineDep, settings: SettingsDep) -> ModelPublic:
    """One model that serves."""
    return model_public(await engine.find(model), settings)


@router.get(
    "/models/{model}/trainable",
    responses=documented(ModelNotFoundError, ConflictError, InvalidInputError, StoreError),
)
def get_trainable(model: ModelName, planner: PlannerDep) -> TrainableModel:
    """What `POST /jobs` can set for a model, with its current values."""
    return planner.trainable(model)


@router.get(
    "/models/{model}/versions",
    responses={**of_a_version, 200: {"links": version_links("/versions/0")}},
)
def list_versions(model: ModelName, repository: RepositoryDep) -> VersionsPublic:
    """List the versions of a model, newest first."""
    return VersionsPublic(
        versions=[
            VersionPublic(**version_fields(version)) for version in repository.versions(model)
        ]
    )


@router.get("/models/{model}/versions/{version}", responses=of_a_version)
def get_version(
    model: ModelName, version: VersionNumber, repository: RepositoryDep
) -> VersionDetail:
    """One version with its lineage: metrics, curve, recipe, seed, data hash, parent, SHA-256."""
    found = repository.version(model, version)
    meta = found.meta
    return VersionDetail(
        **version_fields(found),
        architecture=meta.architecture,
        config=meta.config,
        recipe=meta.recipe,
        dataset=meta.dataset,
        curve=meta.curve,
        libraries=meta.libraries,
        git_commit=meta.git_commit,
        parent_sha256=meta.parent_sha256,
        plots=[
            f"/models/{model}/versions/{version}/{name}"
            for name in meta.files
            if name.startswith("plots/")
        ],
    )


@router.get(
    "/models/{model}/versions/{version}/plots/boundary.json",
    response_model=PlaneData,
    responses=of_a_plot,
)
def get_boundary(model: ModelName, version: VersionNumber, repository: RepositoryDep) -> Response:
    """The training points on the plot of a version's decision boundary, as JSON."""
    content = repository.plot(model, version, BOUNDARY_DATA)
    return Response(content, media_type=JSON_TYPE, headers=PLOT_HEADERS)


@router.get(
    "/models/{model}/versions/{version}/plots/{plot}.{extension}",
    response_class=Response,
    responses={**of_a_plot, 200: {"content": {kind: {} for kind in PLOT_TYPES.values()}}},
)
def get_plot(
    model: ModelName,
    version: VersionNumber,
    plot: Plot,
    extension: PlotFormat,
    repository: RepositoryDep,
) -> Response:
    """A plot made after the training of a version."""
    content = repository.plot(model, version, f"plots/{plot}.{extension}")
    return Response(content, media_type=PLOT_TYPES[extension], headers=PLOT_HEADERS)


@router.put(
    "/models/{model}/aliases/{alias}",
    responses={
        **of_a_version,
        **documented(ForbiddenError, ConflictError, *BODY),
        200: {"links": version_links("")},
    },
    dependencies=[Depends(require_admin_token), Depends(require_json)],
)
def put_alias(
    model: ModelName, alias: Alias, body: AliasPut, engine: EngineDep, repository: RepositoryDep
) -> VersionPublic:
    """Point an alias to a version. `production` promotes the version or rolls back to it.

    The new production version is loaded and warm before the switch: no request fails or waits.
    `previous` cannot be set: the server points it to the version that was production before.
    """
    if alias == PRODUCTION:
        engine.warm(model, body.version)
    repository.point(model, alias, body.version)
    engine.refresh()
    return VersionPublic(**version_fields(repository.version(model, body.version)))
