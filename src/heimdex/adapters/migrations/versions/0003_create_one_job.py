"""A function that creates one job, whose plans a connection makes once."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The version stands in the name: a release that needs another makes another beside it, and an older release, which may
# still run, goes on with this one. A time that is not given is that of the statement; the detail of the event then
# comes in the two parts between which it is written.
_CREATE = """
CREATE FUNCTION heimdex_create_job_v1(
    org_id uuid, id uuid, parent_id uuid, type text, queue text, priority integer, payload json, max_attempts integer,
    backoff_policy text, backoff_base_ms bigint, backoff_factor double precision, backoff_cap_ms bigint,
    backoff_jitter double precision, timeout_ms bigint, scheduled_at timestamptz, idempotency_key text,
    fingerprint text, requested_by text, actor text, source text, detail_before text, detail_after text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := heimdex_now();
    now_text text := to_char(now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
BEGIN
    INSERT INTO job (
        id, org_id, parent_id, type, queue, priority, payload, status, attempt, max_attempts, backoff_policy,
        backoff_base_ms, backoff_factor, backoff_cap_ms, backoff_jitter, timeout_ms, scheduled_at, idempotency_key,
        fingerprint, requested_by, progress, crashes, created_at, updated_at, version
    ) VALUES (
        id, org_id, parent_id, type, queue, priority, payload, 'queued', 0, max_attempts, backoff_policy,
        backoff_base_ms, backoff_factor, backoff_cap_ms, backoff_jitter, timeout_ms, coalesce(scheduled_at, now),
        idempotency_key, fingerprint, requested_by, 0, 0, now, now, 1
    ) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO job_event (job_id, seq, org_id, ts, next_status, trigger, actor, source, detail_json) VALUES (
        id, 1, org_id, now, 'queued', 'create', actor, source, CAST(
            CASE WHEN scheduled_at IS NULL THEN detail_before || now_text || detail_after ELSE detail_before END AS json
        )
    );
    RETURN now_text;
END $$
"""


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(sa.text(_CREATE.replace(":", "\\:")))


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "DO $$ BEGIN EXECUTE format('DROP FUNCTION %s', 'heimdex_create_job_v1'::regproc::regprocedure); END $$"
        )
