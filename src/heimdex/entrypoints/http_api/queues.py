"""Routes: queues are paused, resumed and counted, for the caller's organisation."""

from typing import Annotated, TypeAlias

from fastapi import Path, Response

from heimdex.domain.commands import PauseQueue, ResumeQueue
from heimdex.entrypoints.http_api.answers import (
    PausedAnswer,
    QueuesAnswer,
    ResumedAnswer,
    StatisticsAnswer,
    TypesAnswer,
    answer,
)
from heimdex.entrypoints.http_api.calls import Pausing, Reading
from heimdex.entrypoints.http_api.payload_schemas import described
from heimdex.entrypoints.http_api.requests import Name, ReasonRequest
from heimdex.entrypoints.http_api.routing import problems, router
from heimdex.service_layer.documents import document

routes = router()

# A name may have a slash in it.
Queue: TypeAlias = Annotated[Name, Path(description="The queue's name.")]


@routes.get("/stats", response_model=StatisticsAnswer, responses=problems(), summary="Count jobs by status and type")
def count_jobs(call: Reading) -> Response:
    with call.views() as views:
        return answer(document(views.statistics()))


@routes.get("/types", response_model=TypesAnswer, responses=problems(), summary="The types that can be created")
def list_types(call: Reading) -> Response:
    """None are named where this server takes jobs of any type."""
    return answer({"types": described(call.application.jobs)})


@routes.get("/queues", response_model=QueuesAnswer, responses=problems(), summary="Queues with jobs, and paused ones")
def list_queues(call: Reading) -> Response:
    with call.views() as views:
        queues = views.queues()
    shown = [document(queue) | {"paused": [document(pause) for pause in queue.paused]} for queue in queues]
    return answer({"queues": shown})


@routes.post(
    "/queues/{queue:path}/pause",
    response_model=PausedAnswer,
    responses=problems(408, 413),
    summary="Let no worker take jobs from a queue",
)
def pause_queue(call: Pausing, queue: Queue, wanted: ReasonRequest) -> Response:
    call.application.handle(PauseQueue(scope=call.scope, queue=queue, reason=wanted.reason))
    return answer({"queue": queue, "paused": True})


@routes.post(
    "/queues/{queue:path}/resume",
    response_model=ResumedAnswer,
    responses=problems(),
    summary="Let workers take jobs from a queue again",
)
def resume_queue(call: Pausing, queue: Queue) -> Response:
    was_paused = call.application.handle(ResumeQueue(scope=call.scope, queue=queue))
    return answer({"queue": queue, "was_paused": was_paused})
