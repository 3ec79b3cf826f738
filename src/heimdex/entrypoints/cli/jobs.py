"""`heimdex job`: jobs of one organisation, put together; what is listed and shown of them is here."""

from typing import Annotated
from uuid import UUID

import typer

from heimdex.domain.events import JobEvent
from heimdex.entrypoints.cli import job_changes, job_create, job_questions
from heimdex.entrypoints.cli.job_filters import (
    CreatedBefore,
    CreatedFrom,
    InPayload,
    OfParent,
    OfQueue,
    OfStatus,
    OfType,
    RequestedBy,
    filter_of,
)
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, JobId, Org

# Compared, not read: --json has them.
_FOR_PROGRAMS = frozenset({"fingerprint", "payload_sha256", "result_sha256"})
_MOST = 500

app = typer.Typer(name="job", help="Create jobs, look at them, cancel and retry them.", no_args_is_help=True)
for part in (job_create, job_changes, job_questions):
    app.add_typer(part.app)


@app.command("list")
def list_jobs(
    *,
    status: OfStatus = None,
    type: OfType = None,
    queue: OfQueue = None,
    requested_by: RequestedBy = None,
    parent: OfParent = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    payload: InPayload = None,
    limit: Annotated[int, typer.Option(help=f"At most so many, up to {_MOST}.", min=1, max=_MOST, metavar="N")] = 20,
    after: Annotated[
        UUID | None, typer.Option(help="Go on after this job: the last one of a page.", metavar="ID")
    ] = None,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List jobs, newest first."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger, scope_of

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    which = filter_of(
        status=status,
        type=type,
        queue=queue,
        requested_by=requested_by,
        parent=parent,
        created_from=created_from,
        created_before=created_before,
        payload=payload,
    )
    with ledger(asked) as heimdex, heimdex.views(scope_of(heimdex.settings, "heimdex job list")) as views:
        page = views.page(which, after=after, limit=limit)
    if json:
        output.print_json({"jobs": [output.document(job) for job in page.jobs], "next_after": page.next_after})
        return
    tables.print_table(
        ["id", "status", "type", "try", "queue", "created"],
        [
            (job.id, job.status, job.type, f"{job.attempt}/{job.max_attempts}", job.queue, job.created_at)
            for job in page.jobs
        ],
        whole=["id", "status", "try", "created"],
        spare=["created", "queue"],
        copied="id",
    )
    if page.next_after is not None:
        typer.echo(f"There are more: --after {page.next_after}", err=True)


@app.command("show")
def show_job(
    job_id: JobId, *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """Show a job with its payload, its result and what it recorded."""
    from heimdex.domain.errors import JobNotFound
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger, scope_of

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with ledger(asked) as heimdex, heimdex.views(scope_of(heimdex.settings, "heimdex job show")) as views:
        job = views.find(job_id)
        if job is None:
            raise JobNotFound(job_id)
        assets = views.assets([job_id])[job_id]
        refusals = views.refusals(job_id)
    answer = output.document(job) | {"assets": [output.document(asset) for asset in assets], "refusals": refusals}
    if json:
        output.print_json(answer)
    else:
        tables.print_pairs({name: value for name, value in answer.items() if value is not None})


@app.command("history")
def show_history(
    job_id: JobId, *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """Show every event of a job, the first one first."""
    from heimdex.domain.errors import JobNotFound
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger, scope_of

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with ledger(asked) as heimdex, heimdex.views(scope_of(heimdex.settings, "heimdex job history")) as views:
        events = views.history(job_id)
    if not events:
        raise JobNotFound(job_id)
    if json:
        output.print_json({"job_id": job_id, "events": [output.document(event) for event in events]})
        return
    tables.print_table(
        ["seq", "time", "trigger", "status", "actor", "detail"],
        [(event.seq, event.ts, event.trigger, event.next_status, event.actor, _said(event)) for event in events],
        whole=["seq", "time", "trigger", "status"],
        spare=["actor"],
    )


def _said(event: JobEvent) -> str:
    """Return what an event carries beside its move, on one line."""
    from heimdex.entrypoints.cli.output import readable

    detail = readable(event.detail_json)
    said = detail.items() if isinstance(detail, dict) else [("detail", detail)]
    parts = [f"{name}={value}" for name, value in said if value is not None and name not in _FOR_PROGRAMS]
    return ", ".join(parts if event.reason is None else [event.reason, *parts])
