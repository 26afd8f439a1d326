"""`/jobs`: retrainings, what became of them, and the events of one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from perceptd.service.api.deps import (
    ClosingDep,
    EngineDep,
    GuardedRoute,
    IntakeDep,
    JobsDep,
    require_admin_token,
    require_json,
    require_predict_token,
)
from perceptd.service.api.operations import BODY, READ, WRITE, Responses, documented, links
from perceptd.service.errors import ConflictError, JobNotFoundError, ModelNotFoundError, StoreError
from perceptd.service.jobs.queue import Job, Status
from perceptd.service.jobs.schemas import JobCreate, JobDetail, JobPublic, JobsPublic

LOOK_S = 0.25  # between looks for new events
NOTHING_MORE = 204  # the status at which an EventSource does not connect again
MAX_PAGE = 200

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)
reading: dict[str, Any] = {"dependencies": [Depends(require_predict_token)]}
changing: dict[str, Any] = {"dependencies": [Depends(require_admin_token)], "status_code": 202}

JOB = {"job": "$response.body#/id"}
READ_JOB = links(JOB, "get_job_jobs__job__get", "follow_job_jobs__job__events_get")
CHANGE_JOB = links(
    JOB, "cancel_job_jobs__job__cancel_post", "reproduce_job_jobs__job__reproduce_post"
)
ACCEPTED: Responses = {
    202: {
        "headers": {"Location": {"schema": {"type": "string"}}},
        "links": {**READ_JOB, **CHANGE_JOB},
    }
}

JobNumber = Annotated[int, Path(ge=1, examples=[1])]
IdempotencyKey = Annotated[
    str | None,
    Header(description="The same key with the same body: the same job, however often it is sent."),
]


def job_public(job: Job) -> JobPublic:
    return JobPublic.model_validate(job, from_attributes=True)


def accepted(job: Job, response: Response) -> JobPublic:
    response.headers["Location"] = f"/jobs/{job.id}"
    return job_public(job)


def found(job: JobNumber, jobs: JobsDep) -> Job:
    return jobs.get(job)


FoundDep = Annotated[Job, Depends(found)]
LastEvent = Annotated[int, Header(ge=0, description="Goes on after this event.")]


def followed(job: FoundDep, last_event_id: LastEvent = 0) -> Job:
    """A job with more to tell; a browser that has heard all of it is told to ask no more."""
    if job.ended and last_event_id >= job.events:
        raise HTTPException(status_code=NOTHING_MORE)
    return job


FollowedDep = Annotated[Job, Depends(followed)]


@router.post(
    "",
    responses={
        **documented(*WRITE),
        **documented(ModelNotFoundError, ConflictError, *BODY),
        **ACCEPTED,
    },
    status_code=202,
    dependencies=[Depends(require_admin_token), Depends(require_json)],
)
def create_job(
    body: JobCreate, intake: IntakeDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobPublic:
    """Ask for a retraining. Every mistake is told at once, before anything is queued."""
    return accepted(intake.train(body, idempotency_key), response)


@router.get("", responses=documented(*READ), **reading)
def list_jobs(
    jobs: JobsDep,
    after: Annotated[int | None, Query(ge=1, description="`after` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    status: Status | None = None,
    model: str | None = None,
) -> JobsPublic:
    """Jobs, newest first."""
    page = jobs.page(after=after, limit=limit + 1, status=status, model=model)
    more = len(page) > limit
    return JobsPublic(
        jobs=[job_public(job) for job in page[:limit]], after=page[limit - 1].id if more else None
    )


@router.get("/{job}", responses={**documented(*READ), **documented(JobNotFoundError)}, **reading)
def get_job(job: FoundDep, jobs: JobsDep) -> JobDetail:
    """One job: how far it is, its curve so far, and what became of it."""
    curve = [event.data for event in jobs.events(job.id, kind="epoch")]
    return JobDetail.model_validate(
        {**job_public(job).model_dump(), "plan": job.plan, "log": job.log, "curve": curve}
    )


@router.get(
    "/{job}/events",
    response_class=EventSourceResponse,
    responses={
        **documented(*READ),
        **documented(JobNotFoundError),
        NOTHING_MORE: {"description": "Nothing comes after it"},
    },
    **reading,
)
async def follow_job(
    job: FollowedDep,
    jobs: JobsDep,
    engine: EngineDep,
    closing: ClosingDep,
    last_event_id: LastEvent = 0,
) -> AsyncIterator[ServerSentEvent]:
    """What happens to a job, live. Ends when the job has ended.

    - `status`: its new status, with attempt, version, promotion and reason where there are some
    - `epoch`: an evaluated epoch, as in `progress` of the job
    - `log`: a `line` that the training wrote
    - `gate`: the verdict, as in `gate` of the job, and the promotion

    Where a model with two labels takes points of the plane, also what is needed to draw it:

    - `plane`, once: `x` and `y`, from where to where it is shown; `points`, at most 500 rows of the
      training set; `targets`, the index of each one's label
    - `boundary`, some 40 times, evenly over the epochs, the first and the last among them: `epoch`;
      `size`, points per axis of a grid that fills the plane with its corners; `probabilities` of
      the second label in 255ths, row by row from low to high `y`, each from low to high `x`

    After a lost connection send the `id` of the last event as the header `Last-Event-ID`: nothing
    is left out and nothing comes twice.
    """
    last = last_event_id
    while True:
        try:
            now = await to_thread.run_sync(jobs.get, job.id)
            events = await to_thread.run_sync(jobs.events, job.id, last)
            if now.promotion == "promoted":  # whoever is told of it here is served by it here
                await to_thread.run_sync(engine.refresh)
        except StoreError:
            return  # whoever listens comes again with the last id
        for event in events:
            last = event.number
            yield ServerSentEvent(id=str(last), event=event.kind, data=event.data)
        if now.ended or closing.is_set():
            return
        await asyncio.sleep(LOOK_S)


@router.post(
    "/{job}/cancel",
    responses={
        **documented(*WRITE),
        **documented(JobNotFoundError, ConflictError),
        202: {"links": READ_JOB},
    },
    **changing,
)
def cancel_job(job: JobNumber, jobs: JobsDep) -> JobPublic:
    """Cancel a queued job at once; stop the process of a running one within seconds."""
    return job_public(jobs.cancel(job))


@router.post(
    "/{job}/reproduce",
    responses={
        **documented(*WRITE),
        **documented(JobNotFoundError, ConflictError),
        **ACCEPTED,
    },
    **changing,
)
def reproduce_job(
    job: JobNumber, intake: IntakeDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobPublic:
    """Train once more by the recorded plan, and say whether the weights' hash is the same.

    Nothing is registered: the result is in `reproduction` of the new job.
    """
    return accepted(intake.reproduce(job, idempotency_key), response)
