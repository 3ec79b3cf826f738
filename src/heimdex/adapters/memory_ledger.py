"""The store in memory, put together. Nothing is kept when the process ends."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.memory import MemoryUnitOfWork
from heimdex.adapters.memory_store import MemoryStore
from heimdex.adapters.memory_views import open_memory_views
from heimdex.domain.errors import CapabilityMissing
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import (
    Duty,
    NoRenewer,
    Renewer,
    RolesMade,
    Schema,
    SchemaState,
    StartUnitOfWork,
    Store,
    Views,
    Wakeups,
)

_STATE = SchemaState(current="memory", head="memory")


class MemorySchema(Schema):
    """Memory has the shape that it needs."""

    def upgrade(self, revision: str = "head") -> SchemaState:
        return _STATE

    def downgrade(self, revision: str) -> SchemaState:
        return _STATE

    def state(self) -> SchemaState:
        return _STATE

    def check(self) -> SchemaState:
        return _STATE

    def make_roles(self, login: str | None = None, *, duty: Duty = Duty.BOTH) -> RolesMade:
        raise CapabilityMissing("memory has no roles; it is one process's own")


class MemoryLedger(Store):
    def __init__(self, store: MemoryStore, *, tools: Tools, wakeups: Wakeups) -> None:
        self._store = store
        self._tools = tools
        self._wakeups = wakeups
        self._schema = MemorySchema()

    @property
    def schema(self) -> MemorySchema:
        return self._schema

    def unit_of_work(self, scope: Scope) -> MemoryUnitOfWork:
        return MemoryUnitOfWork(self._store, scope, self._tools, self._wakeups)

    def join(self, session_or_connection: object, scope: Scope) -> MemoryUnitOfWork:
        raise CapabilityMissing("the store in memory is in no database whose transaction could be joined")

    def reserve(self, _: timedelta) -> tuple[StartUnitOfWork, Callable[[], None]]:
        return self.unit_of_work, self.close

    @property
    def writes_side_by_side(self) -> bool:
        return False

    def renewer(self, *, lease: timedelta, every: timedelta, most: int) -> Renewer:
        return NoRenewer()

    def views(self, scope: Scope) -> AbstractContextManager[Views]:
        return open_memory_views(self._store, scope)

    def close(self) -> None:
        """Nothing is held open."""
