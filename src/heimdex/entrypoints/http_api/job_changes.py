"""Routes: jobs are canceled and retried."""

from fastapi import Response

from heimdex.domain.commands import CancelJob, RetryJob
from heimdex.domain.transitions import Status
from heimdex.entrypoints.http_api.answers import JobAnswer, answer, shown_to
from heimdex.entrypoints.http_api.calls import Creating
from heimdex.entrypoints.http_api.requests import JobId, ReasonRequest
from heimdex.entrypoints.http_api.routing import problems, router

routes = router()

_ASKED_TO_STOP = {"model": JobAnswer, "description": "The job runs, and is asked to stop: see cancel_requested_at."}


@routes.post(
    "/jobs/{job_id}/cancel",
    response_model=JobAnswer,
    responses={202: _ASKED_TO_STOP, **problems(404, 408, 409, 413)},
    summary="Cancel a queued job, or ask a running one to stop",
)
def cancel_job(call: Creating, job_id: JobId, wanted: ReasonRequest) -> Response:
    job = call.application.handle(CancelJob(scope=call.scope, job_id=job_id, reason=wanted.reason))
    return answer(shown_to(call.caller, job), 202 if job.status is Status.RUNNING else 200)


@routes.post(
    "/jobs/{job_id}/retry",
    response_model=JobAnswer,
    responses=problems(404, 408, 409, 413),
    summary="Queue a failed, canceled or dead job again",
)
def retry_job(call: Creating, job_id: JobId, wanted: ReasonRequest) -> Response:
    job = call.application.handle(RetryJob(scope=call.scope, job_id=job_id, reason=wanted.reason))
    return answer(shown_to(call.caller, job))
