"""Paused queues, erased organisations, and the pruner's road through the append-only tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_APPEND_ONLY = ("job_event", "job_refusal")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "paused_queue",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("paused_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "queue", name=op.f("pk_paused_queue")),
    )
    op.create_table(
        "org_erasure",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("erased_at", moment, nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("refusals", sa.BigInteger(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org_erasure")),
    )
    ended = sa.text("finished_at IS NOT NULL")
    op.create_index("idx_job_finished", "job", ["finished_at", "id"], postgresql_where=ended, sqlite_where=ended)
    if op.get_context().dialect.name == "postgresql":
        _open_road_on_postgres()
    else:
        _open_road_on_sqlite()


def _refuse_delete(table: str, *, unless: str = "") -> str:
    trigger = f"CREATE TRIGGER {table}_append_only_delete BEFORE DELETE ON {table}"
    return f"{trigger}{unless} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"


def _open_road_on_postgres() -> None:
    # The setting keeps accidents out. Who is not the owner has no right to delete, and comes through the function,
    # which removes nothing of a job whose row is there.
    op.execute(
        "CREATE OR REPLACE FUNCTION heimdex_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_OP = 'DELETE' AND current_setting('heimdex.pruning', true) = 'on' THEN RETURN NULL; END IF;"
        " RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'HX001'; END $$"
    )
    op.execute(
        "CREATE FUNCTION heimdex_remove_histories(job_ids uuid[], OUT events bigint, OUT refusals bigint)"
        " LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
        # Not as a setting of the function, which only a superuser may give it.
        " PERFORM set_config('heimdex.pruning', 'on', true);"
        " DELETE FROM job_event e WHERE e.job_id = ANY(job_ids)"
        " AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = e.job_id);"
        " GET DIAGNOSTICS events = ROW_COUNT;"
        " DELETE FROM job_refusal r WHERE r.job_id = ANY(job_ids)"
        " AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = r.job_id);"
        " GET DIAGNOSTICS refusals = ROW_COUNT;"
        " PERFORM set_config('heimdex.pruning', 'off', true); END $$"
    )
    # It finds our tables wherever the caller looks first, and never a temporary one of the caller's.
    op.execute(
        "DO $$ BEGIN EXECUTE format('ALTER FUNCTION heimdex_remove_histories(uuid[])"
        " SET search_path = %I, pg_temp', current_schema()); END $$"
    )
    op.execute("REVOKE ALL ON FUNCTION heimdex_remove_histories(uuid[]) FROM PUBLIC")


def _open_road_on_sqlite() -> None:
    # A row in here opens the road; it is written and deleted in the transaction that prunes.
    op.create_table(
        "pruning", sa.Column("id", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("id", name=op.f("pk_pruning"))
    )
    for table in _APPEND_ONLY:
        op.execute(f"DROP TRIGGER {table}_append_only_delete")
        op.execute(_refuse_delete(table, unless=" WHEN NOT EXISTS (SELECT 1 FROM pruning)"))


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION heimdex_remove_histories(uuid[])")
        op.execute(
            "CREATE OR REPLACE FUNCTION heimdex_refuse_change() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'HX001'; END $$"
        )
    else:
        for table in _APPEND_ONLY:
            op.execute(f"DROP TRIGGER {table}_append_only_delete")
            op.execute(_refuse_delete(table))
        op.drop_table("pruning")
    op.drop_index("idx_job_finished", table_name="job")
    op.drop_table("org_erasure")
    op.drop_table("paused_queue")
