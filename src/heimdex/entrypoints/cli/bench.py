"""`heimdex bench`: how fast Heimdex is on a database of yours, with jobs that do nothing."""

from typing import TYPE_CHECKING, Annotated

import typer

from heimdex.entrypoints.cli.errors import REFUSED
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

if TYPE_CHECKING:
    from heimdex.entrypoints.cli.benching import Benched

app = typer.Typer()


@app.command()
def bench(
    *,
    jobs: Annotated[
        int, typer.Option(help="How many jobs are created and run.", min=100, max=1_000_000, metavar="N")
    ] = 10_000,
    workers: Annotated[
        int, typer.Option(help="Worker processes: this one, and others beside it.", min=1, max=64, metavar="N")
    ] = 1,
    batch: Annotated[
        int | None,
        typer.Option(help="Jobs held or finished at a time, instead of HEIMDEX_BATCH.", min=1, max=1_000, metavar="N"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the jobs and their histories in place.")] = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Create jobs that do nothing, run them, and say how many a second.

    They belong to an organisation of their own (--org and HEIMDEX_ORG are not
    used), stand in a queue of their own and are of types that no other worker
    knows. When the bench ends, even by Ctrl-C, they are erased, with their
    histories; what stays is one line on record, as after each `org erase`.
    """
    from heimdex.entrypoints.cli import benching, output, tables

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    wanted = benching.Wanted(jobs=jobs, workers=workers, batch=batch, keep=keep)
    with tables.progress() as bars:
        benched = benching.bench(asked, wanted, bars)
    if json:
        output.print_json(_as_document(benched))
    else:
        _print(benched)
    if benched.unfinished:
        raise typer.Exit(REFUSED)


def _as_document(benched: "Benched") -> dict[str, object]:
    from heimdex.entrypoints.cli import output

    return output.document(benched) | {
        "figures": [output.document(one) for one in benched.figures],
        "removed": None if benched.removed is None else output.document(benched.removed),
    }


def _print(benched: "Benched") -> None:
    from heimdex.entrypoints.cli import output, tables

    tables.print_pairs(
        {
            "database": benched.database_url,
            "worker processes": benched.workers,
            "jobs at a time": f"{benched.batch} claimed or finished, {benched.concurrency} run by a process",
        }
    )
    output.print_line("")
    tables.print_table(
        ["", "jobs", "seconds", "a second"],
        [(one.what, f"{one.jobs:,}", f"{one.seconds:.2f}", f"{one.per_second:,.0f}") for one in benched.figures],
        right=["jobs", "seconds", "a second"],
    )
    output.print_line("")
    if benched.pickups:
        output.print_line(
            f"From the create call to the job function, {benched.pickups} times on an idle worker:"
            f" median {benched.pickup_median_ms:.1f} ms, longest {benched.pickup_longest_ms:.1f} ms."
        )
    if benched.unfinished:
        output.print_line(f"{benched.unfinished:,} jobs were not finished in time: there is no rate of running them.")
    removed = benched.removed
    if removed is None:
        output.print_line(f"Left in place: organisation {benched.org_id}, queue {benched.queue}.")
        output.print_line(f"To remove it: heimdex org erase {benched.org_id} --reason bench")
        return
    output.print_line(f"Removed: {removed.jobs:,} jobs and {removed.events:,} events of organisation {benched.org_id}.")
