"""Jobs, their history, refused writes, assets and workers."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = ("heimdex",)
depends_on: str | Sequence[str] | None = None

_APPEND_ONLY = ("job_event", "job_refusal")


def upgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    json_text = sa.JSON(none_as_null=True) if postgres else sa.Text()
    moment = sa.DateTime(timezone=True)

    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid()),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("payload", json_text, nullable=False),
        sa.Column("result", json_text),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("backoff_policy", sa.String(8), nullable=False),
        sa.Column("backoff_base_ms", sa.BigInteger(), nullable=False),
        sa.Column("backoff_factor", sa.Double(), nullable=False),
        sa.Column("backoff_cap_ms", sa.BigInteger(), nullable=False),
        sa.Column("backoff_jitter", sa.Double(), nullable=False),
        sa.Column("timeout_ms", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_at", moment, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("requested_by", sa.String(255), nullable=False),
        sa.Column("stage", sa.String(64)),
        sa.Column("progress", sa.SmallInteger(), nullable=False),
        sa.Column("claimed_by", sa.Uuid()),
        sa.Column("lease_seq", sa.Integer()),
        sa.Column("lease_until", moment),
        sa.Column("crashes", sa.SmallInteger(), nullable=False),
        sa.Column("cancel_requested_at", moment),
        sa.Column("last_error_code", sa.String(64)),
        sa.Column("last_error_message", sa.String(2048)),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.CheckConstraint(
            "status IN ('canceled', 'dead_letter', 'failed', 'queued', 'running', 'succeeded')",
            name=op.f("ck_job_status"),
        ),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_job_progress")),
        sa.CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name=op.f("ck_job_attempt")),
        sa.CheckConstraint("crashes >= 0", name=op.f("ck_job_crashes")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_job_version")),
        sa.CheckConstraint(
            "(status = 'running') = (lease_seq IS NOT NULL)"
            " AND (status = 'running') = (lease_until IS NOT NULL)"
            " AND (status = 'running') = (claimed_by IS NOT NULL)",
            name=op.f("ck_job_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('canceled', 'dead_letter', 'failed', 'succeeded')) = (finished_at IS NOT NULL)",
            name=op.f("ck_job_finished_at"),
        ),
    )
    keyed = sa.text("idempotency_key IS NOT NULL")
    op.create_index(
        "uq_job_org_idempotency",
        "job",
        ["org_id", "idempotency_key"],
        unique=True,
        postgresql_where=keyed,
        sqlite_where=keyed,
    )
    op.create_index("idx_job_org_status", "job", ["org_id", "status", "created_at", "id"])
    queued, running = sa.text("status = 'queued'"), sa.text("status = 'running'")
    op.create_index(
        "idx_job_claim",
        "job",
        [sa.text("priority DESC"), "scheduled_at", "id"],
        postgresql_where=queued,
        sqlite_where=queued,
    )
    op.create_index("idx_job_running", "job", ["id"], postgresql_where=running, sqlite_where=running)

    op.create_table(
        "job_event",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("ts", moment, nullable=False),
        sa.Column("prev_status", sa.Text()),
        sa.Column("next_status", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255)),
        sa.Column("reason", sa.String(1000)),
        sa.Column("detail_json", json_text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_job_event")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_job_event_seq")),
        sa.CheckConstraint(
            "trigger IN ('bury', 'cancel', 'claim', 'create', 'expire', 'fail', 'log', 'progress', 'release',"
            " 'request_cancel', 'retry', 'retry_by_hand', 'snooze', 'succeed')",
            name=op.f("ck_job_event_trigger"),
        ),
    )
    op.create_table(
        "job_refusal",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("ts", moment, nullable=False),
        sa.Column("lease_seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_refusal")),
    )
    op.create_index("idx_job_refusal_org_job", "job_refusal", ["org_id", "job_id"])
    op.create_table(
        "asset",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("metadata", json_text, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
    )
    op.create_index("uq_asset_org_job_uri", "asset", ["org_id", "job_id", "uri"], unique=True)
    op.create_table(
        "worker",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("seen_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    (_guard_on_postgres if postgres else _guard_on_sqlite)()


def _guard_on_postgres() -> None:
    # STABLE and SQL, so that the planner inlines it and can use indexes for comparisons with it.
    op.execute(
        "CREATE FUNCTION heimdex_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
        " AS $$ SELECT statement_timestamp() $$"
    )
    op.execute(
        "CREATE FUNCTION heimdex_refuse_change() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'HX001'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION heimdex_refuse_change()"
        )


def _guard_on_sqlite() -> None:
    for table in _APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_append_only_{change.lower()} BEFORE {change} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    for table in ("worker", "asset", "job_refusal", "job_event", "job"):
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION heimdex_refuse_change()")
        op.execute("DROP FUNCTION heimdex_now()")
