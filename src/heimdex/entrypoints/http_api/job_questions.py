"""Routes: what happened to a job, what it made, and why it is not running."""

from fastapi import Response

from heimdex.domain.errors import JobNotFound
from heimdex.entrypoints.http_api.answers import AssetsAnswer, HistoryAnswer, WhyAnswer, all_shown_to, answer
from heimdex.entrypoints.http_api.calls import Reading
from heimdex.entrypoints.http_api.requests import HistoryQueryParameters, JobId
from heimdex.entrypoints.http_api.routing import problems, router
from heimdex.service_layer.documents import document

routes = router()


@routes.get(
    "/jobs/{job_id}/history", response_model=HistoryAnswer, responses=problems(404), summary="What happened to a job"
)
def show_history(call: Reading, job_id: JobId, query: HistoryQueryParameters) -> Response:
    with call.views() as views:
        events = views.events_after({job_id: query.after}, limit=query.limit)[job_id]
        if not events and not views.events_after({job_id: 0}, limit=1)[job_id]:
            raise JobNotFound(job_id)
        refusals = views.refusals(job_id)
    next_after = events[-1].seq if len(events) == query.limit else None
    shown = all_shown_to(call.caller, events)
    return answer({"job_id": job_id, "events": shown, "refusals": refusals, "next_after": next_after})


@routes.get("/jobs/{job_id}/assets", response_model=AssetsAnswer, responses=problems(404), summary="What a job made")
def list_assets(call: Reading, job_id: JobId) -> Response:
    with call.views() as views:
        if views.find(job_id) is None:
            raise JobNotFound(job_id)
        assets = views.assets([job_id])[job_id]
    return answer({"assets": all_shown_to(call.caller, assets)})


@routes.get("/jobs/{job_id}/why", response_model=WhyAnswer, responses=problems(404), summary="Why a job is not running")
def explain_waiting(call: Reading, job_id: JobId) -> Response:
    with call.views() as views:
        blockers = views.explain_waiting(job_id)
    return answer({"job_id": job_id, "blockers": [document(blocker) for blocker in blockers]})
