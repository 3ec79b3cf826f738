"""`heimdex queue`: queues are paused, resumed and counted."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org, Reason

if TYPE_CHECKING:
    from heimdex.config import Settings
    from heimdex.domain.operations import PausedQueue
    from heimdex.domain.scope import Scope

Queue: TypeAlias = Annotated[str, typer.Argument(help="The queue's name.", metavar="NAME", show_default=False)]
Everybody: TypeAlias = Annotated[
    bool, typer.Option("--everybody", help="For every organisation, instead of the one to act for.")
]

app = typer.Typer(name="queue", help="Pause and resume queues, and count what waits in them.", no_args_is_help=True)


@app.command()
def pause(
    queue: Queue,
    *,
    reason: Reason,
    everybody: Everybody = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let no worker take jobs from a queue. What runs goes on; paused again, the last reason counts."""
    from heimdex.domain.commands import PauseQueue
    from heimdex.entrypoints.cli import output
    from heimdex.entrypoints.cli.opening import ledger

    with ledger(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        scope = _scope(heimdex.settings, "heimdex queue pause", everybody=everybody)
        heimdex.handle(PauseQueue(scope=scope, queue=queue, reason=reason))
    if json:
        output.print_json({"queue": queue, "org_id": None if everybody else heimdex.settings.org, "paused": True})
    else:
        output.print_line(f"{queue} is paused for {_whom(everybody=everybody)}")


@app.command()
def resume(
    queue: Queue,
    *,
    everybody: Everybody = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let workers take jobs from a queue again. A pause for every organisation is lifted for every one alone."""
    from heimdex.domain.commands import ResumeQueue
    from heimdex.entrypoints.cli import output
    from heimdex.entrypoints.cli.opening import ledger

    with ledger(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        scope = _scope(heimdex.settings, "heimdex queue resume", everybody=everybody)
        was_paused = heimdex.handle(ResumeQueue(scope=scope, queue=queue))
    if json:
        org_id = None if everybody else heimdex.settings.org
        output.print_json({"queue": queue, "org_id": org_id, "was_paused": was_paused})
    else:
        output.print_line(
            f"{queue} {'is resumed' if was_paused else 'was not paused'} for {_whom(everybody=everybody)}"
        )


@app.command("list")
def list_queues(
    *,
    everybody: Everybody = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the queues in which jobs wait or run, and the paused ones."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger

    with ledger(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        scope = _scope(heimdex.settings, "heimdex queue list", everybody=everybody)
        with heimdex.views(scope) as views:
            queues = views.queues()
    if json:
        output.print_json(
            [
                output.document(queue) | {"paused": [output.document(pause) for pause in queue.paused]}
                for queue in queues
            ]
        )
        return
    tables.print_table(
        ["queue", "queued", "running", "paused"],
        [
            (queue.queue, f"{queue.queued:,}", f"{queue.running:,}", "\n".join(map(_said, queue.paused)))
            for queue in queues
        ],
        whole=["queued", "running"],
        right=["queued", "running"],
    )


def _scope(settings: "Settings", source: str, *, everybody: bool) -> "Scope":
    from heimdex.entrypoints.cli.opening import every_organisation, scope_of

    if everybody:
        return every_organisation(source, "the queue of every organisation was asked for")
    return scope_of(settings, source)


def _whom(*, everybody: bool) -> str:
    return "every organisation" if everybody else "this organisation"


def _said(pause: "PausedQueue") -> str:
    whom = "every organisation" if pause.org_id is None else f"organisation {pause.org_id}"
    return f"for {whom} by {pause.actor}: {pause.reason}"
