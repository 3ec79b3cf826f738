"""`heimdex job cancel` and `heimdex job retry`: one job by its id, or all that fit."""

from typing import Annotated, TypeAlias
from uuid import UUID

import typer

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
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org, Reason, Yes

JobId: TypeAlias = Annotated[
    UUID | None, typer.Argument(help="The job's id; without, those that the options choose.", metavar="[ID]")
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Every job of the organisation.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs that would be changed.")]

app = typer.Typer()


@app.command("cancel")
def cancel_jobs(
    job_id: JobId = None,
    *,
    reason: Reason,
    status: OfStatus = None,
    type: OfType = None,
    queue: OfQueue = None,
    requested_by: RequestedBy = None,
    parent: OfParent = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    payload: InPayload = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Cancel a job, or all that fit. A queued one is canceled at once, a running one is asked to stop.

    Of many, those that have ended are passed over. Before many are canceled,
    their number is shown and somebody is asked.
    """
    from heimdex.entrypoints.cli import changing

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
    chosen = changing.Chosen(job_id=job_id, which=which, everything=everything, dry_run=dry_run, yes=yes)
    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    changing.change(changing.CANCEL, asked, chosen, reason)


@app.command("retry")
def retry_jobs(
    job_id: JobId = None,
    *,
    reason: Reason,
    status: OfStatus = None,
    type: OfType = None,
    queue: OfQueue = None,
    requested_by: RequestedBy = None,
    parent: OfParent = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    payload: InPayload = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Queue a job again that ended without success, or all that fit. Its attempts start anew.

    Of many, those that are queued, run or have succeeded are passed over. Before
    many are retried, their number is shown and somebody is asked.
    """
    from heimdex.entrypoints.cli import changing

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
    chosen = changing.Chosen(job_id=job_id, which=which, everything=everything, dry_run=dry_run, yes=yes)
    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    changing.change(changing.RETRY, asked, chosen, reason)
