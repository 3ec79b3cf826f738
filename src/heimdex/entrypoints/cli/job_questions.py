"""`heimdex job stats` and `heimdex job why`: how the jobs stand, and what one of them waits for."""

from typing import TYPE_CHECKING

import typer

from heimdex.domain.transitions import Status
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, JobId, Org

if TYPE_CHECKING:
    from uuid import UUID

    from heimdex.domain.waiting import Blocker
    from heimdex.entrypoints.cli.opening import Ledger

app = typer.Typer()


@app.command("stats")
def show_statistics(
    *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """Count jobs by status and by type, and name the queued types that no living worker runs."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger, scope_of

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with ledger(asked) as heimdex, heimdex.views(scope_of(heimdex.settings, "heimdex job stats")) as views:
        statistics = views.statistics()
    if json:
        output.print_json(output.document(statistics))
        return
    counts = {str(status): f"{count:,}" for status, count in statistics.by_status.items()}
    tables.print_pairs(counts | {"without a worker": ", ".join(statistics.unserved_types) or "no type"})
    if statistics.by_type:
        output.print_line("")
        rows = [
            (type, *(f"{counts.get(status, 0):,}" for status in Status))
            for type, counts in sorted(statistics.by_type.items())
        ]
        tables.print_table(["type", *Status], rows, whole=list(Status), right=list(Status))


@app.command("why")
def explain_waiting(
    job_id: JobId, *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """Say why a job is not running: everything that it waits for, one a line."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import ledger

    with ledger(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        blockers = _blockers(heimdex, job_id)
    if json:
        output.print_json({"job_id": job_id, "blockers": [output.document(blocker) for blocker in blockers]})
    elif blockers:
        rows = [(blocker.kind, blocker.until, blocker.text) for blocker in blockers]
        tables.print_table(["blocker", "until", "why"], rows, whole=["blocker", "until"])
    else:
        output.print_line("nothing: the next free slot takes it")


def _blockers(heimdex: "Ledger", job_id: "UUID") -> "tuple[Blocker, ...]":
    from heimdex.domain.errors import SchemaMismatch, SchemaMissing
    from heimdex.domain.waiting import Blocker, BlockerKind
    from heimdex.entrypoints.cli.opening import scope_of

    scope = scope_of(heimdex.settings, "heimdex job why")
    try:
        with heimdex.views(scope) as views:
            return views.explain_waiting(job_id)
    except (SchemaMissing, SchemaMismatch) as error:
        # No worker of this version starts on such a database either.
        return (Blocker(BlockerKind.SCHEMA, str(error)),)
