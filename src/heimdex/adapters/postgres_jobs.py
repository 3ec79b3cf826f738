"""The hot verbs restated for PostgreSQL: a claim of any batch in one statement, a write of any batch in one.

Core cannot say a data-modifying WITH that feeds another, nor `unnest` of many arrays side by side, so these are SQL
text. They restate `Job.claim` and `apply`; the tests' state machine holds them equal.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import chain, compress, islice
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause

from heimdex.adapters.claim_bounds import NOBODY
from heimdex.adapters.job_repository import SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.made_late import MadeLate
from heimdex.adapters.plain_success import first_endings, in_order, is_plain_success, succeeded
from heimdex.adapters.postgres_claim import bound_parameters, claim_of_all, claim_statement, claimed
from heimdex.adapters.postgres_connection import ask
from heimdex.adapters.postgres_create import CREATE_ONE, Birth
from heimdex.adapters.postgres_create_many import Births, create_many_statement
from heimdex.adapters.postgres_succeed import succeed_parameters, succeed_statement
from heimdex.adapters.postgres_write import write_parameters, write_statement
from heimdex.adapters.rows import time_from
from heimdex.adapters.scoping import carrying
from heimdex.domain.errors import CommitOutcomeUnknown, ConnectionLost
from heimdex.domain.job import Job, copied
from heimdex.domain.new_job import JobSpec
from heimdex.domain.results import Created, Ending, Written
from heimdex.domain.scope import Tenant

# Of a job that was not created; nobody gets to see it.
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


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
        jobs, seen = claimed(self._rows(statement, parameters), worker, limit)
        self._bounds.saw(look, seen)
        return jobs

    def _create_all(self, org_id: UUID, to_come: Iterator[JobSpec]) -> Sequence[Created]:
        firsts = list(islice(to_come, 2))
        if not firsts:
            return []
        if len(firsts) == 1:  # it has a function of its own
            return self._keep(org_id, firsts)
        births = Births(chain(firsts, to_come), org_id, self._scope, self._tools.ids)
        with self._all_or_nothing() if births.may_be_refused else nullcontext():
            return self._bear(births)

    def _keep(self, org_id: UUID, specs: Sequence[JobSpec]) -> Sequence[Created]:
        [spec] = specs
        return [self._keep_one(org_id, Birth(spec, org_id, self._scope, self._tools.ids))]

    def _bear(self, births: Births) -> Sequence[Created]:
        statement = carrying(create_many_statement(), self._scope)
        [(now, refused)] = self._session().connection().execute(statement, births.parameters()).all()
        time = time_from(now)
        for priority, at in births.priorities_and_times():
            self._bounds.put(priority, (at or time, NOBODY))
        if refused is None:
            for queue in births.due_queues(time):
                self._tools.wake(queue)
            return MadeLate(len(births), lambda: [Created(job, replayed=False) for job in births.jobs(time)])
        jobs, ids = births.jobs(time), set(refused)
        return self._answers(births.org_id, jobs, [job for job in jobs if str(job.id) in ids])

    def _keep_one(self, org_id: UUID, birth: Birth) -> Created:
        now = self._create_one(org_id, birth.values())
        if now is None:
            refused = birth.job(_NEVER)
            [created] = self._answers(org_id, [refused], [refused])
            return created
        time = time_from(now)
        self._bounds.put(birth.kind.priority, (birth.at or time, birth.id))
        if birth.at is None or birth.at <= time:
            self._tools.wake(birth.kind.queue)
        return Created(birth.job(time), replayed=False)

    def _create_one(self, org_id: UUID, values: Sequence[object]) -> str | None:
        """Return the time at which it was created, or nothing if its id or key is taken."""
        session = self._session()
        if self.writes_once and not session.in_transaction():
            return self._create_alone(org_id, values)
        time: str | None = ask(session.connection(), CREATE_ONE, self._scope, org_id, *values)
        return time

    def _create_alone(self, org_id: UUID, values: Sequence[object]) -> str | None:
        began = monotonic()
        connection = self._database.connect_alone(self._scope)
        try:
            time: str | None = ask(connection, CREATE_ONE, self._scope, org_id, *values)
        except ConnectionLost as error:
            self._bounds.resumed()
            raise CommitOutcomeUnknown(
                f"the connection was lost during a create that commits ({error.detail}); look whether the row is there"
            ) from error
        except BaseException:
            # Nobody knows where it was put, if it was.
            self._bounds.resumed()
            raise
        finally:
            connection.close()
        self.write_seconds = monotonic() - began
        return time

    def finish(self, endings: Sequence[Ending]) -> Written:
        # Written where nothing has moved since the claim: one statement for plain successes, one for what else is
        # decided on the jobs as their claims returned them. The others are locked, read and decided, or refused.
        firsts = first_endings(endings)
        succeeded_at = self._succeed({place: one for place, one in firsts.items() if is_plain_success(one)})
        if endings and len(succeeded_at) == len(endings):
            return Written(MadeLate(len(endings), lambda: in_order(_succeeded(endings, succeeded_at))), ())
        done = self._end_unmoved({place: one for place, one in firsts.items() if not is_plain_success(one)})
        others = [one for place, one in enumerate(endings) if place not in done and place not in succeeded_at]
        rest = super().finish(others) if others else Written((), ())
        jobs = [*_succeeded(endings, succeeded_at), *done.values(), *rest.jobs]
        return Written(in_order(jobs), rest.refusals)

    def _succeed(self, endings: Mapping[int, Ending]) -> dict[int, str]:
        """End the runs whose rows are as their claims returned them; return when each was, by its place."""
        if not endings:
            return {}
        parameters = succeed_parameters(list(endings.values()), self._scope) | self._organisation_parameter()
        places = list(endings)
        rows = self._rows(succeed_statement(of_tenant=isinstance(self._scope, Tenant)), parameters)
        return {places[number - 1]: time_text for number, time_text in rows}

    def _rows(self, statement: TextClause, parameters: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a statement as the driver gives them."""
        with closing(self._session().connection().execute(carrying(statement, self._scope), parameters)) as result:
            return result.cursor.fetchall()

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


def _succeeded(endings: Sequence[Ending], times: Mapping[int, str]) -> list[Job]:
    return [succeeded(endings[place], time_from(time_text)) for place, time_text in times.items()]
