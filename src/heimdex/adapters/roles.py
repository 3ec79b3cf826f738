"""Roles, grants and row-level security on PostgreSQL: how the second wall between organisations is made.

Not by a migration: roles belong to the server, and who may make them is not who may migrate. Everything here may be run
again, and by two at a time; what is there already is left as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import Connection, text

from heimdex.adapters.orm import EVERY_ORGANISATION
from heimdex.domain.errors import InvalidInput, SchemaMissing
from heimdex.domain.rules import check_text
from heimdex.service_layer.ports import Duty, RolesMade

OWNER, API, WORKER, READ_ONLY = "heimdex_owner", "heimdex_api", "heimdex_worker", "heimdex_read_only"
ROLES = (OWNER, API, WORKER, READ_ONLY)
ORGANISATION = "heimdex.org_id"
"""The setting that names a transaction's organisation. Once a transaction that set it has ended it reads ''."""

# A table that has no row here does not exist for these roles. `job_event` and `job_refusal` can be added to, no more.
GRANTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "job": {API: "SELECT, INSERT, UPDATE", WORKER: "SELECT, INSERT, UPDATE, DELETE", READ_ONLY: "SELECT"},
        "job_event": {API: "SELECT, INSERT", WORKER: "SELECT, INSERT", READ_ONLY: "SELECT"},
        "job_refusal": {API: "SELECT, INSERT", WORKER: "SELECT, INSERT", READ_ONLY: "SELECT"},
        "asset": {API: "SELECT, INSERT", WORKER: "SELECT, INSERT, DELETE", READ_ONLY: "SELECT"},
        "paused_queue": {
            API: "SELECT, INSERT, UPDATE, DELETE",
            WORKER: "SELECT, INSERT, UPDATE, DELETE",
            READ_ONLY: "SELECT",
        },
        "org_erasure": {WORKER: "SELECT, INSERT, UPDATE"},
        "worker": {API: "SELECT", WORKER: "SELECT, INSERT, UPDATE, DELETE", READ_ONLY: "SELECT"},
        "heimdex_version": {API: "SELECT", WORKER: "SELECT", READ_ONLY: "SELECT"},
    }
)
TABLES_IN_SQL = ", ".join(f"'{table}'" for table in GRANTS)
_FUNCTIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "heimdex_now": (API, WORKER, READ_ONLY),
        "heimdex_remove_histories": (WORKER,),
        "heimdex_create_job_v1": (API, WORKER),
        "heimdex_claim_due_v1": (WORKER,),
    }
)
_DUTIES: Mapping[Duty, Sequence[str]] = MappingProxyType(
    {Duty.API: (API,), Duty.WORKER: (WORKER,), Duty.BOTH: (API, WORKER)}
)
_OF_THE_ORGANISATION = f"org_id = NULLIF(current_setting('{ORGANISATION}', true), '')::uuid"
_TABLES = f"""
SELECT name,
    EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(name) AND attname = 'org_id') AS has_org
FROM unnest(ARRAY[{TABLES_IN_SQL}]) AS name WHERE to_regclass(name) IS NOT NULL
"""  # noqa: S608 - our own names
# Two runs in one database wait for each other. The number is arbitrary and ours: "heimdexR".
_ADVISORY_LOCK = 0x6865696D64657852


def make_roles(connection: Connection, login: str | None, duty: Duty) -> RolesMade:
    """Make what is missing, in the connection's transaction.

    Raises:
        SchemaMissing: there are no tables yet.
        InvalidInput: the server knows no such login.
        DatabaseUnavailable: whoever is connected may not make roles, or does not own the tables.
    """
    _run(connection, f"SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    tables = _tables(connection)
    if "job" not in tables:
        raise SchemaMissing("there are no tables to give roles to; run `heimdex db upgrade`")
    if login is not None and not _exists(connection, check_text("login", login)):
        raise InvalidInput("login", login, "create it first: CREATE ROLE ... LOGIN")
    made = tuple(role for role in ROLES if _make_role(connection, role))
    for statement in _grants(connection, tables):
        _run(connection, statement)
    walled = tuple(sorted(table for table, has_org in tables.items() if has_org))
    for table in walled:
        for statement in _walls(table):
            _run(connection, statement)
    for role in _DUTIES[duty] if login is not None else ():
        _add_member(connection, role, login or "")
    return RolesMade(roles=made, tables=walled, login=login)


def _tables(connection: Connection) -> dict[str, bool]:
    """Return our tables that exist, and of each whether its rows belong to organisations."""
    return {row.name: bool(row.has_org) for row in connection.execute(text(_TABLES))}


def _make_role(connection: Connection, role: str) -> bool:
    if _exists(connection, role):
        return False
    # Another database of the same server may be making it too: roles belong to all of them, our lock to this one.
    _run(
        connection,
        f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN;"
        " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    )
    return True


def _add_member(connection: Connection, role: str, member: str) -> None:
    # Only where it is missing, so that whoever may not grant can run this again.
    asked = text("SELECT pg_has_role(:member, :role, 'USAGE')")
    if not connection.execute(asked, {"member": member, "role": role}).scalar_one():
        _run(connection, f"GRANT {role} TO {connection.dialect.identifier_preparer.quote_identifier(member)}")


def _grants(connection: Connection, tables: Mapping[str, bool]) -> Iterator[str]:
    schema, owner, owner_is_super = connection.execute(
        text(
            "SELECT relnamespace::regnamespace::text, rolname, rolsuper"
            " FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner WHERE pg_class.oid = to_regclass('job')"
        )
    ).one()
    if not owner_is_super:
        # Forced policies hold for whoever owns the tables too: migrations of data go through the owner's.
        _add_member(connection, OWNER, owner)
    yield f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(ROLES)}"
    for table in tables:
        # What an earlier version granted, or somebody by hand, goes first.
        yield f"REVOKE ALL ON {table} FROM PUBLIC, {API}, {WORKER}, {READ_ONLY}"
        for role, rights in GRANTS[table].items():
            yield f"GRANT {rights} ON {table} TO {role}"
    for function, roles in _FUNCTIONS.items():
        if connection.execute(text("SELECT to_regproc(:name)"), {"name": function}).scalar() is not None:
            yield f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"
            yield f"GRANT EXECUTE ON FUNCTION {function} TO {', '.join(roles)}"


def _walls(table: str) -> Iterator[str]:
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    rules = {OWNER: "true", WORKER: "true", API: _OF_THE_ORGANISATION, READ_ONLY: _OF_THE_ORGANISATION}
    for role, rule in rules.items():
        if role in GRANTS[table] or role == OWNER:
            yield f"DROP POLICY IF EXISTS {role} ON {table}"
            yield f"CREATE POLICY {role} ON {table} TO {role} USING ({rule}) WITH CHECK ({rule})"
    if table == "paused_queue":
        # A pause for every organisation is seen by each, and changed by none.
        yield f"DROP POLICY IF EXISTS every_organisation ON {table}"
        yield (
            f"CREATE POLICY every_organisation ON {table} FOR SELECT TO {API}, {READ_ONLY}"
            f" USING (org_id = '{EVERY_ORGANISATION}')"
        )


def _exists(connection: Connection, role: str) -> bool:
    asked = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :name)")
    return bool(connection.execute(asked, {"name": role}).scalar_one())


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement.replace("%", "%%"))
