"""What `heimdex api` and `heimdex token` do."""

from collections.abc import Collection
from datetime import timedelta

from heimdex.bootstrap import discover_jobs
from heimdex.domain.access import Role
from heimdex.domain.errors import InvalidSetting
from heimdex.entrypoints.cli import output
from heimdex.entrypoints.cli.opening import NoOrganisation, check_kept, opened, settings_of
from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.http_api.app import api_settings, create_app
from heimdex.entrypoints.http_api.authentication import mint as mint_token
from heimdex.entrypoints.http_api.serving import listen, log_as_json
from heimdex.entrypoints.http_api.serving import serve as serve_on


def serve(asked: Asked, *, host: str, port: int) -> None:
    settings = api_settings(settings_of(asked))
    check_kept(asked, settings, "name a database that is kept: no worker can work on this memory")
    jobs = None if settings.jobs is None else discover_jobs(settings)
    with opened(asked, settings, jobs) as heimdex:
        app = create_app(heimdex)
        heimdex.schema.check()
        try:
            listening = listen(host, port)
        except OSError as error:
            raise InvalidSetting("--port", port, f"give another one, or --host ({error.strerror})") from None
        log_as_json()
        name, number = listening.getsockname()[:2]
        output.print_line(f"http://{name}:{number}")
        serve_on(app, listening)


def mint(asked: Asked, *, actor: str, roles: Collection[Role], minutes: int) -> str:
    settings = settings_of(asked)
    if settings.org is None:
        raise NoOrganisation
    return mint_token(settings, org_id=settings.org, actor=actor, roles=roles, lifetime=timedelta(minutes=minutes))
