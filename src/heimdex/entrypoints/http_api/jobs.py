"""Routes: jobs are created, found and listed."""

from typing import Annotated

from fastapi import Header, Response

from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import InvalidInput, JobNotFound
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.transitions import Status
from heimdex.entrypoints.http_api.answers import (
    BatchAnswer,
    CreatedAnswer,
    JobAnswer,
    PageAnswer,
    all_shown_to,
    answer,
    created_for,
    shown_to,
)
from heimdex.entrypoints.http_api.calls import Call, Creating, Reading
from heimdex.entrypoints.http_api.requests import (
    BatchRequest,
    JobId,
    JobQueryParameters,
    JobRequest,
    Key,
    NewJobRequest,
)
from heimdex.entrypoints.http_api.routing import problems, router

routes = router()

IdempotencyKey = Annotated[
    Key | None, Header(description="As the field `idempotency_key`; where both are given, they must be the same.")
]

_REPLAYED = {
    "model": CreatedAnswer,
    "description": "The idempotency key had made this job before.",
    "headers": {"Idempotency-Replayed": {"schema": {"type": "string", "const": "true"}}},
}


@routes.post(
    "/jobs",
    status_code=202,
    response_model=CreatedAnswer,
    responses={200: _REPLAYED, **problems(404, 408, 413)},
    summary="Create a job",
)
def create_job(call: Creating, wanted: NewJobRequest, idempotency_key: IdempotencyKey = None) -> Response:
    new = wanted.new_job(call.application.jobs, _one_key(idempotency_key, wanted.idempotency_key))
    _check_quota(call, [wanted])
    command = CreateJobs(scope=call.scope, new_jobs=[new], parent_id=wanted.parent_id)
    [created] = call.application.handle(command)
    headers = {"Location": f"/v1/jobs/{created.job.id}"}
    if created.replayed:
        headers["Idempotency-Replayed"] = "true"
    return answer(created_for(call.caller, created), 200 if created.replayed else 202, headers)


@routes.post(
    "/jobs:batch",
    status_code=202,
    response_model=BatchAnswer,
    responses=problems(404, 408, 413),
    summary="Create jobs together, all or none",
)
def create_jobs(call: Creating, wanted: BatchRequest) -> Response:
    new_jobs = [one.new_job(call.application.jobs) for one in wanted.jobs]
    _check_quota(call, wanted.jobs)
    created = call.application.handle(CreateJobs(scope=call.scope, new_jobs=new_jobs, parent_id=wanted.parent_id))
    return answer({"jobs": [created_for(call.caller, one) for one in created]}, 202)


@routes.get("/jobs", response_model=PageAnswer, responses=problems(), summary="List jobs, newest first")
def list_jobs(call: Reading, query: JobQueryParameters) -> Response:
    with call.views() as views:
        page = views.page(query.which, after=query.after, limit=query.limit)
    return answer({"jobs": all_shown_to(call.caller, page.jobs), "next_after": page.next_after})


@routes.get("/jobs/{job_id}", response_model=JobAnswer, responses=problems(404), summary="Show a job")
def show_job(call: Reading, job_id: JobId) -> Response:
    with call.views() as views:
        job = views.find(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return answer(shown_to(call.caller, job))


def _one_key(header: str | None, field: str | None) -> str | None:
    if header is not None and field is not None and header != field:
        raise InvalidInput(
            "idempotency_key", field, "give the same key as in the Idempotency-Key header, or one of them"
        )
    return header


def _check_quota(call: Call, wanted: list[NewJobRequest] | list[JobRequest]) -> None:
    def count() -> int:
        with call.views() as views:
            return views.count(JobFilter(), {Status.QUEUED})

    call.api.quota.take(call.caller.org_id, len(wanted), count)
