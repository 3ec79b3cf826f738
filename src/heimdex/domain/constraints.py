"""The names of the rules that every store keeps, as they stand in `UniqueViolation`."""

JOB_ID = "pk_job"
IDEMPOTENCY_KEY = "uq_job_org_idempotency"
ASSET_URI = "uq_asset_org_job_uri"
