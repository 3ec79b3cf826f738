"""The HTTP API as a server in a thread, on a free port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from uuid import UUID

import uvicorn
from starlette.types import ASGIApp

from heimdex.bootstrap import Application
from heimdex.domain.access import Role
from heimdex.entrypoints.http_api import create_app
from heimdex.entrypoints.http_api.authentication import mint
from heimdex.entrypoints.http_api.serving import listen

SECRET = "a secret of at least thirty-two bytes"  # noqa: S105 - of tests alone
USER = "user@example.com"


@contextmanager
def serving(application: Application) -> Iterator[str]:
    """Give the URL at which an application's API answers until the block ends."""
    with answering(create_app(application)) as url:
        yield url


@contextmanager
def answering(app: ASGIApp) -> Iterator[str]:
    """Give the URL at which an ASGI application answers until the block ends."""
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, name="api server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def token_of(application: Application, org_id: UUID, *roles: Role, actor: str = USER) -> str:
    """Return a token of an organisation; one of an admin where no role is given."""
    chosen = roles or (Role.ADMIN,)
    return mint(application.settings, org_id=org_id, actor=actor, roles=chosen, lifetime=timedelta(minutes=10))
