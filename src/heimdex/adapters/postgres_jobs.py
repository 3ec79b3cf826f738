"""The hot verbs restated for PostgreSQL: a claim of any batch in one statement, a write of any batch in one.

Core cannot say a data-modifying WITH that feeds another, nor `unnest` of many arrays side by side, so these are SQL
text. They restate `Job.claim` and `apply`; the tests' state machine holds them equal.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import compress
from typing import Any
from uuid import UUID

from heimdex.adapters.claim_bounds import NOBODY
from heimdex.adapters.job_repository import SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Change, check_held
from heimdex.adapters.plain_success import first_endings, in_order, is_plain_success, succeeded
from heimdex.adapters.postgres_claim import bound_parameters, claim_of_all, claim_statement, claimed
from heimdex.adapters.postgres_connection import ask
from heimdex.adapters.postgres_create import (
    AT_ONCE,
    CREATE_ONE,
    create_one_values,
    stamp_again,
)
from heimdex.adapters.postgres_create_many import AllCreated, Births, create_many_statement
from heimdex.adapters.postgres_succeed import succeed_parameters, succeed_statement
from heimdex.adapters.postgres_write import write_parameters, write_statement
from heimdex.adapters.rows import time_from
from heimdex.adapters.scoping import carrying
from heimdex.domain.job import Job, copied
from heimdex.domain.new_job import JobSpec
from heimdex.domain.results import Created, Ending, Written
from heimdex.domain.scope import Tenant


class PostgresJobRepository(SqlAlchemyJobRepository):
    def _claim_due(
        self, worker: UUID, types: Collection[str], lease: timedelta, limit: int, queues: Collection[str] | None
    ) -> list[Job]:
        parameters: dict[str, Any] = {
            "types": sorted(types),
            "limit": limit,
            "worker": str(worker),
            "lease": lease,
            "actor": self._scope.actor,
            "source": self._scope.source,
            "queues": None if queues is None else sorted(queues),
        } | self._organisation_parameter()
        bounds = self._bounds.bounds
        look = bounds.look((parameters.get("org_id"), frozenset(types), None if queues is None else frozenset(queues)))
        if not look.from_start:
            parameters |= bound_parameters(look.ranges, bounds.lag)
        of_tenant, of_queues = isinstance(self._scope, Tenant), queues is not None
        if look.from_start and not of_tenant:
            statement = claim_of_all()
        else:
            statement = claim_statement(of_tenant=of_tenant, of_queues=of_queues, from_start=look.from_start)
        rows = self._session().connection().execute(carrying(statement, self._scope), parameters).all()
        jobs, seen = claimed(rows, worker, limit)
        self._bounds.saw(look, seen)
        return jobs

    def _birth(self) -> datetime:
        return AT_ONCE

    def _keep(self, org_id: UUID, specs: Sequence[JobSpec]) -> Sequence[Created]:
        if len(specs) == 1:
            return super()._keep(org_id, specs)
        births = Births(specs, org_id, self._scope, self._tools.ids)
        statement = carrying(create_many_statement(), self._scope)
        [(now, refused)] = self._session().connection().execute(statement, births.parameters()).all()
        time = time_from(now)
        for priority, at in {(spec.new.priority, spec.new.scheduled_at) for spec in specs}:
            self._bounds.put(priority, (at or time, NOBODY))
        if refused is None:
            for queue in births.due_queues(time):
                self._tools.wake(queue)
            return AllCreated(births, time)
        jobs, ids = births.jobs(time), set(refused)
        return self._answers(org_id, jobs, [job for job in jobs if str(job.id) in ids])

    def _insert(self, changes: Sequence[Change]) -> Collection[UUID]:
        [change] = changes
        now = self._create_one(change.job.org_id, create_one_values(change, self._scope))
        if now is None:
            return ()
        stamp_again(change, now)
        self._bounds.wrote([change.job])
        return (change.job.id,)

    def _create_one(self, org_id: UUID, values: Sequence[object]) -> str | None:
        """Return the time at which it was created, or nothing if its id or key is taken."""
        time: str | None = ask(self._session().connection(), CREATE_ONE, self._scope, org_id, *values)
        return time

    def finish(self, endings: Sequence[Ending]) -> Written:
        # Written where nothing has moved since the claim: one statement for plain successes, one for what else is
        # decided on the jobs as their claims returned them. The others are locked, read and decided, or refused.
        for ending in endings:
            check_held(ending.job)
        firsts = first_endings(endings)
        done = self._succeed({place: ending for place, ending in firsts.items() if is_plain_success(ending)})
        done |= self._end_unmoved({place: ending for place, ending in firsts.items() if not is_plain_success(ending)})
        others = [ending for place, ending in enumerate(endings) if place not in done]
        rest = super().finish(others) if others else Written((), ())
        return Written(in_order([*done.values(), *rest.jobs]), rest.refusals)

    def _succeed(self, endings: Mapping[int, Ending]) -> dict[int, Job]:
        """End the runs whose rows are as their claims returned them; return the jobs that were written."""
        if not endings:
            return {}
        statement = carrying(succeed_statement(of_tenant=isinstance(self._scope, Tenant)), self._scope)
        parameters = succeed_parameters(list(endings.values()), self._scope) | self._organisation_parameter()
        rows = self._session().connection().execute(statement, parameters).all()
        places = list(endings)
        return {
            places[number - 1]: succeeded(endings[places[number - 1]], time_from(time_text))
            for number, time_text in rows
        }

    def _end_unmoved(self, endings: Mapping[int, Ending]) -> dict[int, Job]:
        if not endings:
            return {}
        now = self._now()
        changes = []
        for ending in endings.values():
            job = copied(ending.job)
            changes.append(self._change(job, self._end(job, ending), now))
        kept = self._write_unmoved(changes)
        written = {place: change.job for place, change in compress(zip(endings, changes, strict=True), kept)}
        self._wake_for(written.values(), now)
        return written

    def _write(self, changes: Sequence[Change]) -> None:
        self._expect(len(changes), sum(self._write_unmoved(changes)))

    def _write_unmoved(self, changes: Sequence[Change]) -> list[bool]:
        """Write the changes of rows that are as they were, with their events; return which these are."""
        if not changes:
            return []
        ids = [str(change.job.id) for change in changes]
        statement = carrying(write_statement(of_tenant=isinstance(self._scope, Tenant)), self._scope)
        parameters = write_parameters(changes, ids, self._scope) | self._organisation_parameter()
        written = set(self._session().connection().execute(statement, parameters).scalars())
        self._bounds.wrote(change.job for change in changes)
        return [job_id in written for job_id in ids]

    def _organisation_parameter(self) -> dict[str, Any]:
        return {"org_id": str(self._scope.org_id)} if isinstance(self._scope, Tenant) else {}
