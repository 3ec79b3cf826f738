"""`heimdex job create`: one job, from a command line."""

from typing import Annotated

import typer

from heimdex.domain.new_job import DEFAULT_QUEUE
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

app = typer.Typer()


@app.command("create")
def create_job(
    type: Annotated[str, typer.Argument(help="What it runs.", metavar="TYPE", show_default=False)],
    payload: Annotated[str, typer.Argument(help="Its input as JSON; - reads it from stdin.", metavar="PAYLOAD")] = "{}",
    *,
    queue: Annotated[str, typer.Option(help="Where it waits.", metavar="QUEUE")] = DEFAULT_QUEUE,
    priority: Annotated[int, typer.Option(help="Higher ones run first.", metavar="N")] = 0,
    at: Annotated[
        str | None, typer.Option("--at", help="Not before this time, such as 2030-01-31T08:00:00Z.", metavar="TIME")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Its idempotency key: a second create with it finds the first job.", metavar="KEY"),
    ] = None,
    requested_by: Annotated[
        str | None, typer.Option(help="Who asked for it, instead of this process's user.", metavar="ACTOR")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(help="How often it is tried, instead of what its type says.", metavar="N")
    ] = None,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Create a job. Prints its id, and whether it was created or replayed.

    With HEIMDEX_JOBS, its type must be one of those and its payload must fit it;
    without, any type and any payload are taken.
    """
    from heimdex.entrypoints.cli import creating, output

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    wanted = creating.Wanted(
        type=type,
        payload=payload,
        queue=queue,
        priority=priority,
        at=at,
        key=key,
        requested_by=requested_by,
        max_attempts=max_attempts,
    )
    created = creating.create(asked, wanted)
    if json:
        output.print_json({"job": output.document(created.job), "replayed": created.replayed})
    else:
        output.print_line(f"{created.job.id} {'replayed' if created.replayed else 'created'}")
