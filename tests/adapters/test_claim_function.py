"""The function of the schema that claims is the statement that claims for one organisation or from bounds."""

from contextlib import closing

from heimdex.adapters.planning import AS_BEFORE, HELD_TO_INDEXES
from heimdex.adapters.postgres_claim import claim_statement
from tests.sql_stores import admin_connection

# What a parameter of the statement is called in the function.
_CALLED = {
    "queue = ANY(CAST(:queues AS text[]))": "(asked_queues IS NULL OR queue = ANY(asked_queues))",
    "CAST(:types AS text[])": "asked_types",
    ":limit": "asked_limit",
    "CAST(:worker AS uuid)": "by_worker",
    "CAST(:lease AS interval)": "for_lease",
    ":actor": "by_actor",
    ":source": "from_source",
    HELD_TO_INDEXES: "",
    f"WHERE {AS_BEFORE}": "",
}


def test_the_function_that_claims_is_the_statement_that_claims(bare_postgres_url: str) -> None:
    with closing(admin_connection(bare_postgres_url)) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'heimdex_claim_due_v1'")
        [(source,)] = cursor.fetchall()
    statement = claim_statement(of_tenant=False, of_queues=True, from_start=True).text
    for words, name in _CALLED.items():
        statement = statement.replace(words, name)

    assert source.partition("RETURN QUERY")[2].rpartition(";\nEND")[0].split() == statement.split()
