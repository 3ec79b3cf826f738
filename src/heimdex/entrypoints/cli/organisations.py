"""`heimdex org`: what concerns an organisation as a whole."""

from typing import Annotated
from uuid import UUID

import typer

from heimdex.entrypoints.cli.errors import REFUSED
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org, Reason, Yes

app = typer.Typer(name="org", help="Erase an organisation.", no_args_is_help=True)


@app.command()
def erase(
    org_id: Annotated[UUID, typer.Argument(help="The organisation's id.", metavar="ORG", show_default=False)],
    *,
    reason: Reason,
    yes: Yes = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Delete every job, history and asset of an organisation. Only a count of them is left.

    Somebody has to type the id again. Interrupted, it can be run again.
    """
    from heimdex.domain.commands import EraseOrg
    from heimdex.domain.job_filter import JobFilter
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.confirming import check_can_ask, types_again
    from heimdex.entrypoints.cli.opening import application, every_organisation, scope_for

    source = "heimdex org erase"
    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with application(asked) as heimdex:
        if not yes:
            check_can_ask(asked)
            with heimdex.views(scope_for(org_id, source)) as views:
                jobs = views.count(JobFilter())
            question = f"This deletes {jobs:,} jobs of an organisation for good. Type its id again:"
            if not types_again(question, str(org_id)):
                typer.echo("Nothing was deleted.", err=True)
                raise typer.Exit(REFUSED)
        scope = every_organisation(source, "an organisation is erased as a whole")
        with tables.working("erasing"):
            removed = heimdex.handle(EraseOrg(scope=scope, org_id=org_id, reason=reason))
    if json:
        output.print_json({"org_id": org_id, "removed": output.document(removed)})
    else:
        tables.print_pairs({name: f"{count:,}" for name, count in output.document(removed).items()})
