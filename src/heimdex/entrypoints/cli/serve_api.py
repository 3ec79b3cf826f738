"""`heimdex api` and `heimdex token`: the HTTP API, and a token to try it with."""

from typing import Annotated

import typer

from heimdex.domain.access import Role
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

app = typer.Typer()


@app.command("api")
def serve_api(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65_535, metavar="PORT")
    ] = 8000,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Serve the HTTP API until stopped.

    Tokens are those of HEIMDEX_API_AUTH: `dev` on a machine of one's own, `jwks`
    for an issuer's. With HEIMDEX_JOBS, only its types are taken.
    """
    from heimdex.entrypoints.cli import serving

    serving.serve(Asked(json=json, org=org, database_url=database_url, debug=debug), host=host, port=port)


@app.command("token")
def mint_token(
    actor: Annotated[str, typer.Option(help="Who acts with it.", metavar="NAME")] = "dev@example.com",
    role: Annotated[list[Role] | None, typer.Option(help="What may be done with it; may be repeated.")] = None,
    minutes: Annotated[int, typer.Option(help="How long it counts.", min=1, max=60, metavar="N")] = 60,
    *,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print a token for the API of this machine, signed with HEIMDEX_API_SECRET."""
    from heimdex.entrypoints.cli import output, serving

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    token = serving.mint(asked, actor=actor, roles=role or [Role.OPERATOR], minutes=minutes)
    if json:
        output.print_json({"token": token})
    else:
        output.print_line(token)
