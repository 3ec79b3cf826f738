"""Route: what happens to a job, as it happens, as server-sent events."""

from collections.abc import AsyncIterator
from time import time
from typing import Annotated

from fastapi import Header, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from heimdex.domain.errors import InvalidInput, JobNotFound, LimitReached
from heimdex.domain.events import JobEvent
from heimdex.domain.transitions import END_STATUSES
from heimdex.entrypoints.http_api.answers import EventAnswer, shown_to
from heimdex.entrypoints.http_api.calls import Call, Reading
from heimdex.entrypoints.http_api.feed import Watch
from heimdex.entrypoints.http_api.requests import LAST_SEQ, JobId
from heimdex.entrypoints.http_api.routing import problems, router
from heimdex.service_layer.documents import text_of
from heimdex.service_layer.ports import MAX_LISTED

MOST_WATCHERS = 1_000
"""Event streams that one process keeps open."""

_SILENT_SECONDS = 15.0
_TRY_AGAIN_SECONDS = 5.0
_STREAM = {
    "description": (
        "One event for each line of the history: `id` is its seq, `event` its trigger, `data` the same document as in "
        "the history. The stream ends when the job rests in an end status, or the token ends."
    ),
    "content": {
        "text/event-stream": {"schema": {"type": "string"}, "x-data": f"#/components/schemas/{EventAnswer.__name__}"}
    },
}

routes = router()

LastEventId = Annotated[
    int, Header(description="Go on after the event with this id.", ge=0, le=LAST_SEQ, alias="Last-Event-ID")
]


@routes.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: _STREAM, 204: {"description": "It rests, and nothing follows."}, **problems(404)},
    summary="What happens to a job, as it happens",
)
async def stream_events(call: Reading, job_id: JobId, last_event_id: LastEventId = 0) -> Response:
    feed = call.api.feed
    if len(feed) >= MOST_WATCHERS:
        raise LimitReached(f"{MOST_WATCHERS:,} event streams", _TRY_AGAIN_SECONDS)
    # With the last one that was seen, which says whether anything can follow.
    known = await run_in_threadpool(feed.ask, call.caller.org_id, {job_id: max(0, last_event_id - 1)})
    events = known[job_id]
    if not events:
        await run_in_threadpool(_refuse, call, job_id, last_event_id)
    watch = Watch(call.caller.org_id, job_id, last_event_id)
    complete = len(events) < MAX_LISTED
    if complete and events[-1].seq == last_event_id and events[-1].next_status in END_STATUSES:
        return Response(status_code=204)
    watch.hand(events, complete=complete)
    return StreamingResponse(_stream(call, watch), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _refuse(call: Call, job_id: JobId, last_event_id: int) -> None:
    """Say what is wrong with a history that has nothing from this event on."""
    if call.api.feed.ask(call.caller.org_id, {job_id: 0})[job_id]:
        raise InvalidInput("Last-Event-ID", last_event_id, "give the id of an event of this job, or leave it out")
    raise JobNotFound(job_id)


async def _stream(call: Call, watch: Watch) -> AsyncIterator[str]:
    feed = call.api.feed
    feed.join(watch)
    try:
        while (left := call.caller.expires_at - time()) > 0:
            for event in await watch.take(min(left, _SILENT_SECONDS)):
                yield _text(call, event)
            if watch.at_rest:
                return
            # A comment, so that a connection that is gone is noticed.
            yield ": \n\n"
    finally:
        feed.leave(watch)


def _text(call: Call, event: JobEvent) -> str:
    return f"id: {event.seq}\nevent: {event.trigger}\ndata: {text_of(shown_to(call.caller, event))}\n\n"
