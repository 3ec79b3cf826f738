"""`heimdex config`: what is set, and how it is called."""

import typer

from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

app = typer.Typer()


@app.command("config")
def show_settings(
    *, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False
) -> None:
    """Show every setting: its variable, its value here (without passwords) and what it is about."""
    from heimdex.config import variables
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import settings_of

    settings = settings_of(Asked(json=json, org=org, database_url=database_url, debug=debug))
    rows = [
        {"setting": name, "variable": variable, "value": value, "about": about}
        for (name, value), (variable, about) in zip(settings.shown().items(), variables().items(), strict=True)
    ]
    if json:
        output.print_json(rows)
    else:
        tables.print_table(
            ["variable", "value", "about"],
            [(row["variable"], row["value"], row["about"]) for row in rows],
            whole=["variable"],
        )
