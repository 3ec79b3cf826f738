"""The message bus for callers on an event loop: each command runs in a thread, and the loop goes on meanwhile."""

import asyncio
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from heimdex.domain.commands import Command, CreateJobs
from heimdex.domain.new_job import DEFAULT_QUEUE, JobLimits, NewJob
from heimdex.domain.results import Created
from heimdex.domain.scope import Scope
from heimdex.service_layer.message_bus import MessageBus

Answer = TypeVar("Answer")


class AsyncBus:
    """Whoever stops waiting stops nothing: a command that has begun in its thread is run to its end."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def handle(self, command: Command[Answer]) -> Answer:
        """Run a command as the bus does, in a thread."""
        return await asyncio.to_thread(self._bus.handle, command)

    async def create(
        self,
        scope: Scope,
        type: str,
        payload: object = None,
        *,
        org_id: UUID | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        scheduled_at: datetime | None = None,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
        limits: JobLimits | None = None,
        parent_id: UUID | None = None,
    ) -> Created:
        """Create one job in a unit of work of its own; arguments and errors as for `uow.jobs.create`."""
        new_job = NewJob(
            type,
            {} if payload is None else payload,
            queue=queue,
            priority=priority,
            scheduled_at=scheduled_at,
            idempotency_key=idempotency_key,
            requested_by=requested_by,
            limits=limits,
        )
        [created] = await self.handle(CreateJobs(scope=scope, new_jobs=[new_job], org_id=org_id, parent_id=parent_id))
        return created
