"""What `heimdex job cancel` and `heimdex job retry` do."""

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

import typer
from attrs import frozen

from heimdex.domain.commands import CancelJob, CancelJobs, Command, RetryJob, RetryJobs
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import CANCELABLE, RETRIABLE, Status
from heimdex.entrypoints.cli import output, tables
from heimdex.entrypoints.cli.confirming import agrees, check_can_ask
from heimdex.entrypoints.cli.errors import REFUSED
from heimdex.entrypoints.cli.opening import Ledger, ledger, scope_of
from heimdex.entrypoints.cli.options import Asked, Misuse


class _OfOne(Protocol):
    def __call__(self, *, scope: Scope, job_id: UUID, reason: str) -> Command[Job]: ...


class _OfMany(Protocol):
    def __call__(self, *, scope: Scope, which: JobFilter, reason: str) -> Command[int]: ...


@frozen
class Verb:
    """What is done to one job or to many, and in which statuses it can be."""

    name: str
    one: _OfOne
    many: _OfMany
    statuses: Collection[Status]


CANCEL = Verb("cancel", CancelJob, CancelJobs, CANCELABLE)
RETRY = Verb("retry", RetryJob, RetryJobs, RETRIABLE)


@frozen(kw_only=True)
class Chosen:
    """Which jobs were asked for, and how sure whoever asks is."""

    job_id: UUID | None
    which: JobFilter
    everything: bool
    dry_run: bool
    yes: bool


def change(verb: Verb, asked: Asked, chosen: Chosen, reason: str) -> None:
    """Do it to the one job, or count the many, ask, and do it to them; print what became of it."""
    if [chosen.job_id is not None, chosen.which != JobFilter(), chosen.everything].count(True) != 1:
        raise Misuse("give an ID, or options that choose jobs, or --all, and one of these alone.")
    if chosen.job_id is None:
        _change_many(verb, asked, chosen, reason)
    elif chosen.dry_run:
        raise Misuse("--dry-run counts jobs; it does not go with an ID.")
    else:
        _change_one(verb, asked, chosen.job_id, reason)


def _change_one(verb: Verb, asked: Asked, job_id: UUID, reason: str) -> None:
    with ledger(asked) as heimdex:
        job = heimdex.handle(verb.one(scope=_scope(verb, heimdex), job_id=job_id, reason=reason))
    if asked.json:
        output.print_json({"job": output.document(job)})
        return
    stopping = job.status is Status.RUNNING
    output.print_line(f"{job.id} {'running: it is asked to stop' if stopping else job.status}")


def _change_many(verb: Verb, asked: Asked, chosen: Chosen, reason: str) -> None:
    with ledger(asked) as heimdex:
        if not (chosen.yes or chosen.dry_run):
            check_can_ask(asked)
        scope = _scope(verb, heimdex)
        with heimdex.views(scope) as views:
            counted = views.count(chosen.which, verb.statuses)
        if chosen.dry_run:
            _print(asked, counted=counted, changed=0)
            return
        if not chosen.yes and not agrees(f"This will {verb.name} {counted:,} jobs. Go on?"):
            typer.echo("Nothing was changed.", err=True)
            raise typer.Exit(REFUSED)
        with tables.working(f"{verb.name}: {counted:,} jobs"):
            changed = heimdex.handle(verb.many(scope=scope, which=chosen.which, reason=reason))
    _print(asked, counted=counted, changed=changed)


def _scope(verb: Verb, heimdex: Ledger) -> Scope:
    return scope_of(heimdex.settings, f"heimdex job {verb.name}")


def _print(asked: Asked, *, counted: int, changed: int) -> None:
    if asked.json:
        output.print_json({"counted": counted, "changed": changed})
    else:
        tables.print_pairs({"counted": f"{counted:,}", "changed": f"{changed:,}"})
