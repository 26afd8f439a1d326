"""`/jobs`: queue, list, follow, cancel and reproduce jobs."""

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

POLL_S = 0.25  # between queries for new events
NO_MORE_EVENTS = 204  # the status that keeps an EventSource from reconnecting
MAX_PAGE = 200

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)
READING: dict[str, Any] = {"dependencies": [Depends(require_predict_token)]}
CHANGING: dict[str, Any] = {"dependencies": [Depends(require_admin_token)], "status_code": 202}

OF_A_JOB = {**documented(*READ), **documented(JobNotFoundError)}
CHANGE_OF_A_JOB = {**documented(*WRITE), **documented(JobNotFoundError, ConflictError)}
JOB = {"job": "$response.body#/id"}
TO_READ = links(JOB, "get_job_jobs__job__get", "follow_job_jobs__job__events_get")
TO_CHANGE = links(
    JOB, "cancel_job_jobs__job__cancel_post", "reproduce_job_jobs__job__reproduce_post"
)
ACCEPTED: Responses = {
    202: {
        "headers": {"Location": {"schema": {"type": "string"}}},
        "links": {**TO_READ, **TO_CHANGE},
    }
}

JobNumber = Annotated[int, Path(ge=1, examples=[1])]
LastEventId = Annotated[int, Header(ge=0, description="Continue after the event with this number.")]
IdempotencyKey = Annotated[
    str | None,
    Header(description="Requests with the same key and the same body return the same job."),
]


def job_public(job: Job) -> JobPublic:
    return JobPublic.model_validate(job, from_attributes=True)


def accepted(job: Job, response: Response) -> JobPublic:
    response.headers["Location"] = f"/jobs/{job.id}"
    return job_public(job)


def get_job_row(job: JobNumber, jobs: JobsDep) -> Job:
    return jobs.get(job)


JobDep = Annotated[Job, Depends(get_job_row)]


def get_followed_job(job: JobDep, last_event_id: LastEventId = 0) -> Job:
    """Ends the request with 204 if the client has every event of a job that has ended."""
    if job.ended and last_event_id >= job.events:
        raise HTTPException(status_code=NO_MORE_EVENTS)
    return job


FollowedJobDep = Annotated[Job, Depends(get_followed_job)]


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
    """Queue a retraining. An invalid request is refused with its errors before it is queued."""
    return accepted(intake.train(body, idempotency_key), response)


@router.get("", responses=documented(*READ), **READING)
def list_jobs(
    jobs: JobsDep,
    after: Annotated[int | None, Query(ge=1, description="`after` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    status: Status | None = None,
    model: str | None = None,
) -> JobsPublic:
    """List jobs, newest first."""
    page = jobs.page(after=after, limit=limit + 1, status=status, model=model)
    more = len(page) > limit
    return JobsPublic(
        jobs=[job_public(job) for job in page[:limit]], after=page[limit - 1].id if more else None
    )


@router.get("/{job}", responses=OF_A_JOB, **READING)
def get_job(job: JobDep, jobs: JobsDep) -> JobDetail:
    """One job with its progress, its curve so far and its result."""
    curve = [event.data for event in jobs.events(job.id, kind="epoch")]
    return JobDetail.model_validate(
        {**job_public(job).model_dump(), "plan": job.plan, "log": job.log, "curve": curve}
    )


@router.get(
    "/{job}/events",
    response_class=EventSourceResponse,
    responses={
        **OF_A_JOB,
        NO_MORE_EVENTS: {"description": "The job has ended and has no more events"},
    },
    **READING,
)
async def follow_job(
    job: FollowedJobDep,
    jobs: JobsDep,
    engine: EngineDep,
    closing: ClosingDep,
    last_event_id: LastEventId = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the events of a job as they happen. The stream ends with the job.

    - `status`: the new status, with attempt, version, promotion and reason if there are any
    - `epoch`: an evaluated epoch, like `progress` of the job
    - `log`: a `line` that the training wrote
    - `gate`: the verdict, like `gate` of the job, and the promotion

    The training of a 2-D model with two labels also sends events that draw it:

    - `plane`, once: `x` and `y`, the ranges shown; `points`, at most 500 rows of the training set;
      `targets`, the index of each point's label
    - `boundary`, about 40 times, evenly over the epochs from the first to the last: `epoch`;
      `size`, points per axis of a grid that covers the plane, corners included; `probabilities` of
      the second label in 255ths, row by row from low to high `y`, each from low to high `x`

    After a lost connection, send the `id` of the last event as the header `Last-Event-ID`: the
    stream continues without gaps or repeats.
    """
    last = last_event_id
    while True:
        try:
            now = await to_thread.run_sync(jobs.get, job.id)
            events = await to_thread.run_sync(jobs.events, job.id, last)
            if now.promotion == "promoted":  # serve it here before the client reads of it
                await to_thread.run_sync(engine.refresh)
        except StoreError:
            return  # the client reconnects with the last id
        for event in events:
            last = event.number
            yield ServerSentEvent(id=str(last), event=event.kind, data=event.data)
        if now.ended or closing.is_set():
            return
        await asyncio.sleep(POLL_S)


@router.post(
    "/{job}/cancel",
    responses={**CHANGE_OF_A_JOB, 202: {"links": TO_READ}},
    **CHANGING,
)
def cancel_job(job: JobNumber, jobs: JobsDep) -> JobPublic:
    """Cancel a job: a queued one at once, a running one within seconds."""
    return job_public(jobs.cancel(job))


@router.post("/{job}/reproduce", responses={**CHANGE_OF_A_JOB, **ACCEPTED}, **CHANGING)
def reproduce_job(
    job: JobNumber, intake: IntakeDep, response: Response, idempotency_key: IdempotencyKey = None
) -> JobPublic:
    """Train again by the recorded plan and compare the hashes of the weights.

    The new job registers no version; its `reproduction` has the result.
    """
    return accepted(intake.reproduce(job, idempotency_key), response)
