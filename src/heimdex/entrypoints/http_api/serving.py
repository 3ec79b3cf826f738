"""The API as a process: one server on one socket, and its log, one JSON object a line."""

import json
import logging
import socket
import sys
import traceback
from datetime import UTC, datetime

import uvicorn
from starlette.types import ASGIApp

_KEEP_ALIVE_SECONDS = 5
_GRACE_SECONDS = 10
_WAITING_CONNECTIONS = 2_048


class JsonLines(logging.Formatter):
    """A record as one line of JSON, in which nothing can break out of its value."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "request", {})
        if record.exc_info and record.exc_info[1]:
            line["traceback"] = _where(record.exc_info[1])
        return json.dumps(line)


def _where(error: BaseException) -> str:
    """Return where an error was raised, and its kind: its text may hold what a caller sent."""
    return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        OSError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(_WAITING_CONNECTIONS)
    return listening


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer requests until a signal comes; those under way are finished first. To be called in the main thread."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def log_as_json() -> None:
    """Write the log of this process to stderr as JSON, from INFO up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
