"""What is simulated, and what one run of it looks like: everything that is drawn for it follows from the seed."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from attrs import field, frozen

from heimdex.bootstrap import Application
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.pace import WorkerSettings
from heimdex.testing.simulator.chance import chance

LEASE = timedelta(seconds=6)

Client = Callable[[Application], object]
"""Code that creates jobs, asks about them or changes them, in a process of its own.

A client that dies, or lets an error of the database out, is started again from the beginning, as a supervisor would do
it, until it returns.
"""


def _nothing(_: Application) -> None:
    pass


@frozen(kw_only=True)
class Scenario:
    """What is simulated.

    Args:
        jobs: the job functions of every worker. They may call `take` to let time pass.
        clients: by name.
        check: called at the end of a run, when every job has ended; raises AssertionError where something is not right.
        faults: whether things go wrong by themselves. Functions that end their process do so in any case.
        healing: how long after the trouble every job must have ended and every client returned; what has not is
            reported as `stuck` or `client_stuck`. It has to be longer than the longest backoff or schedule.
        calls: how many calls of the ledger a run may make; one that makes more is taken for one that goes round in
            circles, and reported as `busy_loop`. Workers poll while they wait, up to 20 calls in a simulated second
            together: waits of more than some minutes need more calls, as some hundred jobs may.
    """

    jobs: JobRegistry
    clients: Mapping[str, Client] = field(factory=dict)
    check: Client = _nothing
    faults: bool = True
    healing: timedelta = timedelta(minutes=15)
    calls: int = 6_000


ScenarioOf = Callable[[int], Scenario]
"""Returns what is simulated in the run of a seed, new for each run."""


@frozen(kw_only=True)
class Plan:
    """One run.

    Args:
        seed: what all else is drawn from.
        workers: how many worker processes there are.
        slots: how many functions run at a time in each.
        trouble: for how many seconds things go wrong; then all heals.
        share: how likely each kind of fault at each place is part of the run.
        without: kinds of faults that are not, by name and by place and name.
    """

    seed: int
    workers: int
    slots: int
    trouble: float
    settings: WorkerSettings
    share: float = 0.25
    without: frozenset[str] = frozenset()


def plan_of(seed: int) -> Plan:
    """Return the run of a seed."""
    draws = chance(seed, "plan")
    return Plan(
        seed=seed,
        workers=draws.choice((2, 2, 3)),
        slots=draws.choice((1, 2, 3)),
        trouble=draws.uniform(15.0, 40.0),
        settings=WorkerSettings(
            batch=draws.choice((2, 5, 10)),
            lease=LEASE,
            renew=LEASE / 3,
            sweep=timedelta(seconds=draws.choice((1.0, 2.0))),
            poll=timedelta(seconds=draws.choice((1.0, 2.0))),
            grace=timedelta(seconds=draws.choice((0.5, 3.0))),
        ),
    )
