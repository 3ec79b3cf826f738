"""`heimdex worker`: runs jobs until it is stopped."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import INTERRUPTED
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

app = typer.Typer()


@app.command("worker")
def work(
    *,
    queue: Annotated[list[str] | None, typer.Option(help="Only this queue; may be repeated.", metavar="QUEUE")] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="How many jobs run at a time, instead of HEIMDEX_CONCURRENCY.", min=1, max=1_000, metavar="N"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What people see; host and process id if not given.", metavar="NAME")
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Stop when nothing that it runs is queued or running.")
    ] = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run jobs of every organisation until stopped.

    TERM and Ctrl-C stop it: running jobs get HEIMDEX_GRACE_SECONDS, all others
    go back to the queue; a second signal ends the grace.
    """
    from signal import SIGINT

    from heimdex.entrypoints.cli import output, working

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    worked = working.work(asked, queues=queue or None, concurrency=concurrency, name=name, drain=drain)
    if json:
        output.print_json(output.document(worked))
    if worked.exit_code or worked.signal == SIGINT.name:
        raise typer.Exit(worked.exit_code or INTERRUPTED)
