"""`heimdex worker`: runs jobs until it is stopped. `heimdex worker list`: who does."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import INTERRUPTED
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Misuse, Org

app = typer.Typer(name="worker", invoke_without_command=True, subcommand_metavar="[list]")


@app.callback()
def work(
    context: typer.Context,
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
    if context.invoked_subcommand is not None:
        if any(context.params.values()):
            raise Misuse(f"options of `{context.invoked_subcommand}` come after that word.")
        return
    from signal import SIGINT

    from heimdex.entrypoints.cli import output, working

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with output.kept_apart(asked):
        worked = working.work(asked, queues=queue or None, concurrency=concurrency, name=name, drain=drain)
    if json:
        output.print_json(output.document(worked))
    if worked.exit_code or worked.signal == SIGINT.name:
        raise typer.Exit(worked.exit_code or INTERRUPTED)


@app.command("list")
def list_workers(
    *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """List the workers on record, latest seen first. They work for every organisation."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application, every_organisation

    scope = every_organisation("heimdex worker list", "workers work for every organisation")
    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with application(asked) as heimdex, heimdex.views(scope) as views:
        workers = views.workers()
    if json:
        output.print_json([output.document(worker) for worker in workers])
        return
    tables.print_table(
        ["name", "seen", "queues", "types", "started", "id"],
        [
            (
                worker.name,
                worker.seen_at,
                ", ".join(worker.queues) or "every queue",
                ", ".join(worker.types),
                worker.started_at,
                worker.id,
            )
            for worker in workers
        ],
        whole=["seen", "started", "id"],
        spare=["types", "queues", "started", "id"],
    )
