"""The asset repository over SQLAlchemy. It shows how a second table is added."""

from collections.abc import Callable, Sequence
from uuid import UUID

from attrs import fields_dict
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.orm import asset_table, job_table
from heimdex.adapters.reading import load, load_assets
from heimdex.adapters.scoping import carrying, scoped
from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.errors import JobNotFound
from heimdex.domain.job import Job
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import AssetRepository, Ids

_FIELDS = tuple(fields_dict(Asset))


class SqlAlchemyAssetRepository(AssetRepository):
    def __init__(self, database: Database, session: Callable[[], Session], scope: Scope, ids: Ids) -> None:
        self._database = database
        self._session = session
        self._scope = scope
        self._ids = ids

    def add(self, job: Job, asset: NewAsset) -> Asset:
        [added] = self.add_many([(job, asset)])
        return added

    def add_many(self, assets: Sequence[tuple[Job, NewAsset]]) -> list[Asset]:
        if not assets:
            return []
        self._check_jobs([job for job, _ in assets])
        now = self._database.read_now(self._session())
        added = [new.recorded(asset_id=self._ids(), job=job, created_at=now) for job, new in assets]
        rows = [{name: getattr(asset, name) for name in _FIELDS} for asset in added]
        connection = self._session().connection()
        # A uri that the job has already must not end the whole transaction, as it would on PostgreSQL.
        with connection.begin_nested():
            connection.execute(carrying(insert(asset_table), self._scope), rows)
        return added

    def _check_jobs(self, jobs: Sequence[Job]) -> None:
        """Look whether the jobs are there: a copy's columns are whatever its holder made of them."""
        statement = select(job_table.c.id, job_table.c.org_id).where(job_table.c.id.in_({job.id for job in jobs}))
        rows = self._session().execute(scoped(statement, self._scope, job_table))
        stored = {(job_id, org_id) for job_id, org_id in rows}
        for job in jobs:
            if (job.id, job.org_id) not in stored:
                raise JobNotFound(job.id)

    def find(self, asset_id: UUID) -> Asset | None:
        statement = select(Asset).where(asset_table.c.id == asset_id)
        return next(iter(load(self._session(), statement, self._scope, asset_table)), None)

    def of_job(self, job_id: UUID) -> list[Asset]:
        return list(load_assets(self._session(), [job_id], self._scope)[job_id])
