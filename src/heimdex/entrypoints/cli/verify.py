"""`heimdex verify`: whether the ledger is sound, found out by reading all of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from heimdex.entrypoints.cli.errors import FOUND_SOMETHING
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

if TYPE_CHECKING:
    from heimdex.domain.verification import Finding
    from heimdex.service_layer.verifying import Verification

app = typer.Typer()


@app.command()
def verify(
    *,
    limit: Annotated[
        int, typer.Option(help="Show at most so many findings; all are counted.", min=0, metavar="N")
    ] = 20,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read the ledger and say whether each job's history is legal, has no gap and leads to its row.

    It changes nothing, and may be run while workers work. Exits with 1 if
    something is wrong. Every organisation is read, unless --org is given
    (HEIMDEX_ORG is not used).
    """
    from heimdex.domain.job_filter import JobFilter
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application, every_organisation, scope_of
    from heimdex.service_layer.verifying import verify as verified

    source = "heimdex verify"
    with application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        everybody = every_organisation(source, "the whole ledger is verified")
        scope = everybody if org is None else scope_of(heimdex.settings, source)
        with heimdex.views(scope) as views, tables.progress() as bars:
            bar = bars.add_task("verifying", total=views.count(JobFilter()))
            report = verified(views, limit=limit, tell=lambda number: bars.advance(bar, number))
    if json:
        output.print_json(_as_document(report))
    else:
        _print(report, whose="the ledger" if org is None else f"organisation {org}")
    if not report.sound:
        raise typer.Exit(FOUND_SOMETHING)


def _as_document(report: "Verification") -> dict[str, object]:
    from heimdex.entrypoints.cli import output

    return {
        "sound": report.sound,
        "jobs": report.jobs,
        "events": report.events,
        "pruned": report.pruned,
        "organisations": len(report.organisations),
        "broken": report.broken,
        "rules": dict(report.rules.most_common()),
        "findings": [output.document(finding) for finding in report.findings],
    }


def _print(report: "Verification", *, whose: str) -> None:
    from heimdex.entrypoints.cli import output, tables

    counts = {
        "jobs": report.jobs,
        "events": report.events,
        "pruned": report.pruned,
        "organisations": len(report.organisations),
        "broken": report.broken,
    }
    tables.print_pairs({name: f"{count:,}" for name, count in counts.items()})
    output.print_line("")
    if report.sound and not report.jobs and not report.events:
        output.print_line(f"There is nothing to verify: {whose} has neither a job nor a history.")
        return
    if report.sound:
        output.print_line("The ledger is sound: every history is legal, has no gap and leads to its row.")
        return
    tables.print_table(
        ["findings", "rule"],
        [(f"{count:,}", rule) for rule, count in report.rules.most_common()],
        right=["findings"],
    )
    if report.findings:
        output.print_line("")
        tables.print_table(
            ["job", "event", "rule", "what"],
            [(finding.job_id, _event(finding), finding.rule, finding.text) for finding in report.findings],
            whole=["job", "event", "rule"],
            spare=["rule"],
            copied="job",
        )
    hidden = report.rules.total() - len(report.findings)
    if hidden:
        typer.echo(f"There are {hidden:,} more findings: --limit {report.rules.total()} shows all.", err=True)
    jobs = "1 job is" if report.broken == 1 else f"{report.broken:,} jobs are"
    output.print_line("")
    output.print_line(f"The ledger is not sound: {jobs} not as Heimdex writes them.")


def _event(finding: "Finding") -> int | str:
    if finding.seq is not None:
        return finding.seq
    return "-" if finding.rule == "history_without_row" else "row"
