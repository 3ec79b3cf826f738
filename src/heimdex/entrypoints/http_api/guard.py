"""What stands in front of every route: request ids, limits, authentication, headers, one log line for each request.

Plain ASGI, so that a body that is too long, too slow or nobody's is never parsed.
"""

import logging
import re
from asyncio import timeout
from collections.abc import Callable, MutableMapping
from time import perf_counter
from typing import Any
from uuid import UUID

from attrs import define, field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heimdex.domain.access import Caller
from heimdex.domain.errors import HeimdexError
from heimdex.domain.json_text import MAX_BYTES
from heimdex.entrypoints.http_api.calls import Api, Call
from heimdex.entrypoints.http_api.problems import INTERNAL, problem, refused
from heimdex.entrypoints.http_api.tokens import bearer

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
"""Paths that need no caller: they show nothing of an organisation. /metrics has a token of its own."""

BATCH_PATH = "/v1/jobs:batch"
MOST_BYTES = MAX_BYTES + 16 * 1024
MOST_BATCH_BYTES = 8 * 1024 * 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger("heimdex.api")


@define
class _Seen:
    """What is known of a request when it ends."""

    request_id: str
    status: int = 0
    org_id: UUID | None = None
    started: bool = False
    since: float = field(factory=perf_counter)


class Guard:
    """The outermost layer of the API.

    Args:
        body_seconds: the longest time that the whole of a request's body may take.
        draw_id: draws the id of a request that brings none.
    """

    def __init__(self, app: ASGIApp, *, api: Api, body_seconds: float, draw_id: Callable[[], UUID]) -> None:
        self._app = app
        self._api = api
        self._body_seconds = body_seconds
        self._draw_id = draw_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        seen = _Seen(given if _REQUEST_ID.fullmatch(given) else str(self._draw_id()))
        scope["heimdex.request_id"] = seen.request_id

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.started, seen.status = True, message["status"]
                _mark(message, seen.request_id)
            await send(message)

        try:
            await self._serve(scope, receive, send_marked, headers, seen)
        except HeimdexError as error:
            await self._answer(problem(error), scope, receive, send_marked, seen)
        except HTTPException as error:
            await self._answer(refused(error), scope, receive, send_marked, seen)
        except Exception as error:  # noqa: BLE001 - whatever it is, it gets an answer and a line in the log
            _log.exception("request %s failed", seen.request_id)
            await self._answer(problem(error), scope, receive, send_marked, seen)
        finally:
            _log_request(scope, seen)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers, seen: _Seen) -> None:
        if scope["path"] not in OPEN_PATHS:
            caller = await self._authenticate(headers)
            seen.org_id = caller.org_id
            self._api.rate.take(caller.org_id)
            scope["heimdex.call"] = Call(self._api, caller, seen.request_id)
        most = MOST_BATCH_BYTES if scope["path"] == BATCH_PATH else MOST_BYTES
        if int(headers.get("content-length") or 0) > most:
            raise _too_large(most)
        await self._app(scope, _Body(receive, most, self._body_seconds).receive, send)

    async def _authenticate(self, headers: Headers) -> Caller:
        token = bearer(headers.get("authorization"))
        verify = self._api.verifier.caller
        # Keys may have to be fetched, which must not stop everybody else.
        return await run_in_threadpool(verify, token) if self._api.keys is not None else verify(token)

    async def _answer(self, answer: Response, scope: Scope, receive: Receive, send: Send, seen: _Seen) -> None:
        if seen.started:
            # What was begun cannot become another answer: the connection is closed instead.
            raise RuntimeError("the answer had begun")
        await answer(scope, receive, send)


class _Body:
    """Counts what comes of a request's body, and its time."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            # What comes now is that the client has left.
            return await self._receive()
        since = perf_counter()
        try:
            async with timeout(self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the whole request has to be here sooner") from None
        self._seconds -= perf_counter() - since
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            raise _too_large(self._most)
        self._whole = not message.get("more_body", False)
        return message


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"a body of at most {most:,} bytes is taken here")


def _mark(message: MutableMapping[str, Any], request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-Id"] = request_id
    for name, value in _SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def _log_request(scope: Scope, seen: _Seen) -> None:
    route = scope.get("route")
    _log.log(
        logging.ERROR if seen.status >= INTERNAL else logging.INFO,
        "request",
        extra={
            "request": {
                "request_id": seen.request_id,
                "method": scope["method"],
                # The pattern, not the path: a path may hold what is nobody's business.
                "route": getattr(route, "path", None),
                "status": seen.status,
                "org_id": None if seen.org_id is None else str(seen.org_id),
                "milliseconds": round((perf_counter() - seen.since) * 1_000, 1),
            }
        },
    )
