"""Where claims look while index entries of claimed jobs cannot be removed: what is passed over, and what never is."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import pytest
from attrs import define, field

from heimdex.adapters.claim_bounds import ClaimBounds, Kind, Look, Range, Seen
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System, Tenant
from tests.actors import Actor
from tests.contract.steps import create
from tests.sql_stores import PostgresHarness, SqlHarness, admin_connection
from tests.stores import START, HandClock

TENANT = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
A_WHILE = timedelta(minutes=10)
KIND: Kind = (None, frozenset({"t"}), None)
MANY = 5_000


@define(kw_only=True)
class Watched(ClaimBounds):
    """Bounds that keep what they were told."""

    told: list[tuple[bool, int]] = field(factory=list)

    def learn(self, look: Look, seen: Seen) -> None:
        self.told.append((look.from_start, seen.in_vain))
        super().learn(look, seen)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def bounds(clock: HandClock) -> Watched:
    return Watched(tolerated=50, lag=timedelta(0), monotonic=clock.monotonic)


@pytest.fixture
def store(postgres_store: PostgresHarness, bounds: Watched) -> Iterator[PostgresHarness]:
    # Tests before this one have left dead entries, too.
    with closing(admin_connection(postgres_store.url)) as admin:
        admin.cursor().execute("VACUUM job")
    database = postgres_store.store.database
    usual, database.claim_bounds = database.claim_bounds, bounds
    yield postgres_store
    database.claim_bounds = usual


@pytest.fixture
def held_snapshot(store: PostgresHarness) -> Iterator[None]:
    with closing(admin_connection(store.url)) as reader:
        reader.autocommit = False
        reader.set_session(isolation_level="REPEATABLE READ")
        reader.cursor().execute("SELECT count(*) FROM job")
        yield


@pytest.fixture
def elsewhere(store: PostgresHarness) -> Iterator[SqlHarness]:
    """Return the same database as another process has it."""
    harness = SqlHarness(store.url)
    for _ in range(10_000):
        harness.tools.ids()
    yield harness
    harness.close()


def fill(store: PostgresHarness, number: int) -> None:
    with store.unit_of_work(TENANT) as uow:
        uow.jobs.create_many([NewJob("t")] * number)


def claim(store: SqlHarness, limit: int) -> list[Job]:
    with store.unit_of_work(WORKER) as uow:
        return uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=limit)


def drain(store: SqlHarness, number: int) -> None:
    for _ in range(number // 100):
        with store.unit_of_work(WORKER) as uow:
            held = uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=100)
        assert len(held) == 100
        with store.unit_of_work(WORKER) as uow:
            uow.jobs.finish([Ending(job, Succeed()) for job in held])


def ids(jobs: list[Job]) -> list[UUID]:
    return [job.id for job in jobs]


@pytest.fixture
def backlog(store: PostgresHarness, held_snapshot: None) -> list[UUID]:
    """Claim from bounds, with more jobs waiting than a test claims; return the next of them in order."""
    fill(store, 400)
    drain(store, 200)
    with store.unit_of_work(WORKER) as uow:
        waiting = ids(uow.jobs.queued(limit=200))
    store.advance(A_WHILE)
    return waiting


def test_under_a_held_snapshot_claims_do_not_walk_over_what_was_claimed(
    store: PostgresHarness, bounds: Watched, held_snapshot: None
) -> None:
    for _ in range(3):
        fill(store, 300)
        drain(store, 300)
        store.advance(A_WHILE)

    assert bounds.told[:2] == [(True, 0), (True, 100)]
    # The last one that was claimed is where the next look begins.
    assert all(not from_start and in_vain <= 1 for from_start, in_vain in bounds.told[2:])


def test_where_little_is_walked_over_in_vain_every_claim_looks_from_the_start(
    store: PostgresHarness, bounds: Watched
) -> None:
    fill(store, 300)
    for _ in range(6):
        claim(store, 10)

    assert all(from_start for from_start, _ in bounds.told)


def test_looks_from_the_start_are_few_and_end_the_bounds_once_the_snapshot_is_gone(
    store: PostgresHarness, bounds: Watched, clock: HandClock, backlog: list[UUID]
) -> None:
    bounds.told.clear()
    for _ in range(3):
        clock.set(clock.now() + timedelta(seconds=2))
        claim(store, 1)
        claim(store, 1)

    assert [from_start for from_start, _ in bounds.told] == [True, False] * 3


def earlier(store: PostgresHarness) -> UUID:
    return create(store, "t", scheduled_at=START - A_WHILE).id


def earlier_among_many(store: PostgresHarness) -> UUID:
    with store.unit_of_work(TENANT) as uow:
        created = uow.jobs.create_many([NewJob("t"), NewJob("t", scheduled_at=START - A_WHILE)])
    return created[1].job.id


def of_a_higher_priority(store: PostgresHarness) -> UUID:
    return create(store, "t", priority=3).id


def of_a_higher_priority_and_earlier_again(store: PostgresHarness) -> UUID:
    first = create(store, "t", priority=3)
    assert ids(claim(store, 1)) == [first.id]
    return create(store, "t", priority=3, scheduled_at=START - A_WHILE).id


def resumed(store: PostgresHarness) -> UUID:
    with store.unit_of_work(WORKER) as uow:
        uow.queues.pause("slow", reason="flooded")
    job = create(store, "t", queue="slow", scheduled_at=START - A_WHILE)
    claim(store, 1)
    claim(store, 1)
    with store.unit_of_work(WORKER) as uow:
        uow.queues.resume("slow")
    return job.id


def claimed_and_rolled_back_while_others_claim(store: PostgresHarness) -> UUID:
    with Actor(store, WORKER) as other:
        [first] = other.does(lambda uow: uow.jobs.claim_due(worker=UUID(int=8), types={"t"}, lease=LEASE, limit=1))
        claim(store, 1)
        other.rolls_back()
    return first.id


def earlier_on_a_reserved_connection(store: PostgresHarness) -> UUID:
    start, close = store.store.reserve(timedelta(seconds=5))
    with start(TENANT) as uow:
        job = uow.jobs.create("t", scheduled_at=START - A_WHILE).job
    close()
    return job.id


PUT_BEFORE: list[Callable[[PostgresHarness], UUID]] = [
    earlier,
    earlier_among_many,
    of_a_higher_priority,
    of_a_higher_priority_and_earlier_again,
    resumed,
    claimed_and_rolled_back_while_others_claim,
    earlier_on_a_reserved_connection,
]


@pytest.mark.parametrize("put", PUT_BEFORE)
def test_what_this_process_puts_before_the_others_is_claimed_before_them(
    store: PostgresHarness, backlog: list[UUID], put: Callable[[PostgresHarness], UUID]
) -> None:
    job_id = put(store)

    assert ids(claim(store, 1)) == [job_id]


def test_what_another_process_puts_before_the_others_waits_for_a_look_from_the_start(
    store: PostgresHarness, elsewhere: SqlHarness, clock: HandClock, backlog: list[UUID]
) -> None:
    job = create(elsewhere, "t", scheduled_at=START - A_WHILE)

    assert ids(claim(store, 1)) == backlog[:1]
    clock.set(clock.now() + timedelta(seconds=2))
    assert ids(claim(store, 1)) == [job.id]


def test_a_higher_priority_of_another_process_waits_for_no_bound(
    store: PostgresHarness, elsewhere: SqlHarness, backlog: list[UUID]
) -> None:
    job = create(elsewhere, "t", priority=3)

    assert ids(claim(store, 1)) == [job.id]


def test_what_another_process_commits_late_is_seen_within_the_lag(
    store: PostgresHarness, elsewhere: SqlHarness, bounds: Watched, backlog: list[UUID]
) -> None:
    claim(store, 200)
    assert claim(store, 1) == []
    bounds.lag = timedelta(seconds=2)
    late = create(elsewhere, "t", scheduled_at=store.clock.now() - timedelta(seconds=1))

    assert ids(claim(store, 1)) == [late.id]


def seen(last: int, *priorities: int, to_the_end: bool = False, in_vain: int = MANY) -> Seen:
    position = (START, UUID(int=last)) if priorities else None
    return Seen(START + A_WHILE, priorities, position, to_the_end, in_vain)


def test_ranges_have_every_priority_once_and_one_that_was_claimed_alone() -> None:
    bounds = ClaimBounds(tolerated=0)
    bounds.learn(bounds.look(KIND), seen(7, 5, 0, -5))
    at = (START + A_WHILE, UUID(int=0))

    ranges = bounds.look(KIND).ranges

    start = ranges[-1].since
    assert ranges == (
        Range(32_767, 6, at),
        Range(5, 5, at),
        Range(4, 1, at),
        Range(0, 0, at),
        Range(-1, -4, at),
        Range(-5, -5, (START, UUID(int=7))),
        Range(-6, -32_768, start),
    )
    assert start < (START - 1_000 * A_WHILE, UUID(int=0))


def test_what_is_put_there_during_a_look_is_not_passed_over() -> None:
    bounds = ClaimBounds(tolerated=0)
    look = bounds.look(KIND)
    bounds.lower(0, (START, UUID(int=3)))
    bounds.learn(look, seen(7, 0))

    assert [each.since for each in bounds.look(KIND).ranges if each.top == 0] == [(START, UUID(int=3))]


def test_a_look_that_began_before_all_was_forgotten_teaches_nothing() -> None:
    bounds = ClaimBounds(tolerated=0)
    look = bounds.look(KIND)
    bounds.forget()
    bounds.learn(look, seen(7, 0))

    assert bounds.look(KIND).from_start


def test_a_look_from_bounds_moves_them_forth_only_and_one_from_the_start_both_ways() -> None:
    clock = HandClock()
    bounds = ClaimBounds(tolerated=0, monotonic=clock.monotonic)
    bounds.learn(bounds.look(KIND), seen(7, 0))
    bounds.learn(bounds.look(KIND), seen(3, 0))
    assert (START, UUID(int=7)) in [each.since for each in bounds.look(KIND).ranges]

    clock.set(clock.now() + A_WHILE)
    look = bounds.look(KIND)
    assert look.from_start
    bounds.learn(look, seen(3, 0))
    assert (START, UUID(int=3)) in [each.since for each in bounds.look(KIND).ranges]


def test_each_kind_of_claim_has_bounds_of_its_own() -> None:
    bounds = ClaimBounds(tolerated=0)
    bounds.learn(bounds.look(KIND), seen(7, 0))

    assert not bounds.look(KIND).from_start
    assert bounds.look((None, frozenset({"t", "u"}), None)).from_start
    assert bounds.look((str(TENANT.org_id), frozenset({"t"}), None)).from_start


def test_kinds_and_ranges_are_bounded() -> None:
    bounds = ClaimBounds(tolerated=0)
    for n in range(150):
        kind = (str(n), frozenset({"t"}), None)
        bounds.learn(bounds.look(kind), seen(7, 0))
    bounds.learn(bounds.look(KIND), seen(7, *range(500, 0, -2)))

    assert bounds.look(("0", frozenset({"t"}), None)).from_start
    assert not bounds.look(("149", frozenset({"t"}), None)).from_start
    assert bounds.look(KIND).from_start
