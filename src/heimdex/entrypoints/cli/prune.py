"""`heimdex prune`: what has ended long enough ago is deleted."""

from datetime import timedelta
from typing import Annotated

import typer

from heimdex.domain.operations import SHORTEST_KEY_RETENTION, Retention
from heimdex.domain.rules import MAX_LENGTH
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

_MOST = MAX_LENGTH.days
_DEFAULTS = Retention()

app = typer.Typer()


@app.command()
def prune(
    *,
    jobs_days: Annotated[
        int, typer.Option(help="How long a job is kept after its end.", min=0, max=_MOST, metavar="N")
    ] = _DEFAULTS.jobs.days,
    keys_days: Annotated[
        int,
        typer.Option(
            help="How long a job with an idempotency key is kept after its creation, if that is longer.",
            min=SHORTEST_KEY_RETENTION.days,
            max=_MOST,
            metavar="N",
        ),
    ] = _DEFAULTS.keys.days,
    histories_days: Annotated[
        int,
        typer.Option(
            help="How long the history of a deleted job is kept after its last event.", min=0, max=_MOST, metavar="N"
        ),
    ] = _DEFAULTS.histories.days,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Delete jobs of every organisation that ended long enough ago, and histories without a job.

    To be run regularly, once a day for instance. Says what it has deleted.
    """
    from heimdex.domain.commands import Prune
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application, every_organisation

    retention = Retention(
        jobs=timedelta(days=jobs_days), keys=timedelta(days=keys_days), histories=timedelta(days=histories_days)
    )
    scope = every_organisation("heimdex prune", "old jobs of every organisation are pruned")
    with (
        application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex,
        tables.working("pruning"),
    ):
        removed = heimdex.handle(Prune(scope=scope, retention=retention))
    if json:
        output.print_json({"removed": output.document(removed)})
    else:
        tables.print_pairs({name: f"{count:,}" for name, count in output.document(removed).items()})
