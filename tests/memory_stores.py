"""The store in memory as the tests drive it."""

from contextlib import AbstractContextManager
from datetime import datetime

from heimdex.adapters.memory import MemoryUnitOfWork
from heimdex.adapters.memory_store import MemoryStore
from heimdex.adapters.memory_views import open_memory_views
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Views
from tests.stores import StoreHarness


class MemoryHarness(StoreHarness):
    def __init__(self) -> None:
        super().__init__()
        self._empty()

    def unit_of_work(self, scope: Scope) -> MemoryUnitOfWork:
        return MemoryUnitOfWork(self.store, scope, self.tools, self.wakeups)

    def views(self, scope: Scope) -> AbstractContextManager[Views]:
        return open_memory_views(self.store, scope)

    def set_time(self, at: datetime) -> None:
        self.clock.set(at)

    def close(self) -> None:
        """Nothing is kept."""

    def _empty(self) -> None:
        self.store = MemoryStore(self.clock)
