"""A function that claims due jobs of every organisation, whose plan a connection makes once."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The version stands in the name, as in 0003. The statement is that of `postgres_claim`, from the start of the queue.
# The settings are the function's, so that they end with it, and they hold whenever its plan is made.
_CLAIM = """
CREATE FUNCTION heimdex_claim_due_v1(
    asked_types text[], asked_queues text[], asked_limit bigint, by_worker uuid, for_lease interval, by_actor text,
    from_source text
) RETURNS TABLE (
    seen text, id text, org_id text, parent_id text, type varchar, queue varchar, priority smallint, payload text,
    result text, attempt integer, max_attempts integer, backoff_policy varchar, backoff_base_ms bigint,
    backoff_factor double precision, backoff_cap_ms bigint, backoff_jitter double precision, timeout_ms bigint,
    scheduled_at text, idempotency_key varchar, fingerprint varchar, requested_by varchar, lease_seq integer,
    lease_until text, crashes smallint, cancel_requested_at text, last_error_code varchar, last_error_message varchar,
    created_at text, updated_at text, started_at text, version integer
) LANGUAGE plpgsql
SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
RETURN QUERY
WITH before AS MATERIALIZED (
    SELECT pg_stat_get_xact_tuples_returned(CAST('idx_job_claim' AS regclass)) AS walked
), due AS MATERIALIZED (
    SELECT ctid AS place, id, version, priority, scheduled_at, crashes,
        greatest(heimdex_now(), updated_at) AS now
    FROM job
    WHERE status = 'queued' AND scheduled_at <= heimdex_now() AND type = ANY(asked_types)
        AND (org_id, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        AND ('00000000-0000-0000-0000-000000000000'::uuid, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        AND (asked_queues IS NULL OR queue = ANY(asked_queues))
        AND (SELECT walked FROM before) IS NOT NULL
    ORDER BY priority DESC, scheduled_at, id
    LIMIT asked_limit
    FOR UPDATE SKIP LOCKED
), looked AS MATERIALIZED (
    SELECT count(*) AS found, pg_stat_get_xact_tuples_returned(CAST('idx_job_claim' AS regclass))
        - (SELECT min(walked) FROM before) AS walked FROM due
), ranked AS (
    SELECT place, version, now, row_number() OVER claim_order AS position,
        bool_or(crashes > 0) OVER claim_order AS suspect_by_here
    FROM due
    WINDOW claim_order AS (ORDER BY priority DESC, scheduled_at, id)
), claimed AS (
    UPDATE job
    SET status = 'running', attempt = attempt + 1, claimed_by = by_worker,
        lease_seq = job.version + 1, version = job.version + 1, lease_until = ranked.now + for_lease,
        started_at = coalesce(started_at, ranked.now), stage = NULL, progress = 0, updated_at = ranked.now
    FROM ranked
    WHERE job.ctid = ranked.place AND job.version = ranked.version
        AND (ranked.position = 1 OR NOT ranked.suspect_by_here)
    RETURNING job.*
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT id, version, org_id, updated_at, 'queued', status, 'claim', by_actor, from_source, NULL,
        CAST('{"attempt":' || attempt || ',"claimed_by":"' || claimed_by || '","lease_until":"'
            || to_char(lease_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}' AS json)
    FROM claimed
)
SELECT concat_ws(' ', found, walked, heimdex_now() AT TIME ZONE 'UTC'), CAST(id AS text), CAST(org_id AS text),
    CAST(parent_id AS text), type, queue, priority, CAST(payload AS text), CAST(result AS text), attempt, max_attempts,
    backoff_policy, backoff_base_ms, backoff_factor, backoff_cap_ms, backoff_jitter, timeout_ms,
    CAST(scheduled_at AT TIME ZONE 'UTC' AS text), idempotency_key, fingerprint, requested_by, lease_seq,
    CAST(lease_until AT TIME ZONE 'UTC' AS text), crashes, CAST(cancel_requested_at AT TIME ZONE 'UTC' AS text),
    last_error_code, last_error_message, CAST(created_at AT TIME ZONE 'UTC' AS text),
    CAST(updated_at AT TIME ZONE 'UTC' AS text), CAST(started_at AT TIME ZONE 'UTC' AS text), version
FROM looked LEFT JOIN claimed ON true
ORDER BY priority DESC, claimed.scheduled_at, claimed.id;
END $$
"""


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(sa.text(_CLAIM.replace(":", "\\:")))


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "DO $$ BEGIN EXECUTE format('DROP FUNCTION %s', 'heimdex_claim_due_v1'::regproc::regprocedure); END $$"
        )
