"""`POST /models/{model}/versions`: uploads weights, which a job imports as a version."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from starlette.datastructures import UploadFile

from perceptd.service.api.deps import IntakeDep, media_type, require_admin_token
from perceptd.service.api.media import FORM_TYPE
from perceptd.service.api.operations import BODY, WRITE, body, documented
from perceptd.service.api.routes.jobs import ACCEPTED, accepted
from perceptd.service.errors import (
    ConflictError,
    DiskError,
    UnsupportedMediaTypeError,
)
from perceptd.service.jobs.intake import IMPORT_EXAMPLE
from perceptd.service.jobs.schemas import ImportCreate, JobPublic
from perceptd.service.schemas.validation import invalid

router = APIRouter(tags=["models"], dependencies=[Depends(require_admin_token)])


@router.post(
    "/models/{model}/versions",
    status_code=202,
    responses={**documented(ConflictError, *BODY, *WRITE), **ACCEPTED},
    openapi_extra=body("upload"),
)
async def upload_weights(
    model: Annotated[str, Path(examples=["mnist-cnn"])],
    request: Request,
    response: Response,
    intake: IntakeDep,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> JobPublic:
    """Import a `state_dict` from a `.pt` or a `.safetensors` file as the next version of a model.

    Send the file as the form field `file`. A job reads it in a separate process, which loads
    tensors and never runs code, checks their names and shapes, evaluates the weights and registers
    them. The version becomes production only if `gate` allows it. A new model needs
    `architecture`, and its first version serves at once.
    """
    if (kind := media_type(request)) != FORM_TYPE:
        raise UnsupportedMediaTypeError(f"the body must be {FORM_TYPE}, got {kind or 'nothing'}")
    try:
        async with request.form(max_files=1, max_fields=len(ImportCreate.model_fields)) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                got = "text" if file else "nothing"
                expected = "a .pt, .pth or .safetensors file"
                raise invalid(["file"], expected, got, IMPORT_EXAMPLE)
            fields = {name: form[name] for name in form if name != "file"}
            content = await file.read()
    except OSError as error:  # a large file is spooled to disk while it arrives
        raise DiskError(f"an upload cannot be stored: {error.strerror or error}") from error
    except UnicodeError:
        got = "an unreadable charset"
        raise invalid(["file"], "a form in UTF-8", got, IMPORT_EXAMPLE) from None
    texts: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, UploadFile):
            raise invalid([name], "text", "a file", IMPORT_EXAMPLE)
        texts[name] = value
    job = await to_thread.run_sync(
        intake.submit_import, model, file.filename or "", content, texts, idempotency_key
    )
    return accepted(job, response)
