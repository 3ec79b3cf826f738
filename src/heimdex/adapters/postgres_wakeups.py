"""Wake-ups between the processes of one PostgreSQL database, by LISTEN and NOTIFY.

No unit of work sends them: a transaction that has notified takes a lock of the whole database until its commit is on
disk, and commits would queue for it. They go over a connection of their own, after the commit.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from threading import Lock
from typing import Any

from psycopg2.extensions import Notify

from heimdex.adapters.database import after_fork
from heimdex.adapters.postgres_channel import Channel, queues_of
from heimdex.adapters.postgres_listener import Listener
from heimdex.adapters.postgres_notifier import Notifier
from heimdex.adapters.wakeups import LocalWakeups


class PostgresWakeups(LocalWakeups):
    """Wakes this process's listeners itself, and those of others by notifications; only who is subscribed listens.

    A forked child that subscribes or wakes has a thread and a connection of its own. Who subscribed before the fork
    hears there what the child itself writes.

    Args:
        arguments: of a Channel.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._connect = partial(Channel, arguments)
        self._notifier = Notifier(self._connect)
        self._listener: Listener | None = None
        after_fork(self, PostgresWakeups._start_anew)

    def wake(self, queues: Collection[str], commit_seconds: float = 0.0) -> None:
        super().wake(queues)
        if queues:
            self._notifier.tell(queues, commit_seconds)

    def subscribe(self, listener: Callable[[], None], queues: Collection[str] | None = None) -> Callable[[], None]:
        unsubscribe = super().subscribe(listener, queues)
        with self._lock:
            if self._listener is None:
                self._listener = Listener(self._connect, self._hear)

        def unsubscribe_and_listen_no_longer() -> None:
            unsubscribe()
            with self._lock:
                if not self._subscriptions:
                    self._listen_no_longer()

        return unsubscribe_and_listen_no_longer

    def close(self) -> None:
        notifier, self._notifier = self._notifier, Notifier(self._connect)
        notifier.close()
        with self._lock:
            self._listen_no_longer()

    def _listen_no_longer(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._listener = None

    def _hear(self, notifications: Collection[Notify] | None) -> None:
        """Pass notifications on; None: some may have been missed."""
        if notifications is None:
            self.wake_all()
            return
        # What this process has written it has woken its listeners for.
        payloads = {one.payload for one in notifications if one.pid != self._notifier.backend}
        queues = queues_of(payloads)
        if queues is None:
            self.wake_all()
        else:
            super().wake(queues)

    def _start_anew(self) -> None:
        """Leave threads and connections to the process that this one was forked from."""
        self._lock = Lock()
        self._notifier = Notifier(self._connect)
        if self._listener is not None:
            self._listener.let_go()
        self._listener = None
