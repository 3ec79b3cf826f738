"""Tells the processes that work on a PostgreSQL database of work, after the commits of this one."""

from collections.abc import Callable, Collection
from threading import Event, Lock, Thread

import psycopg2

from heimdex.adapters.postgres_channel import OF_ANY_QUEUE, Channel, Complaint, payload_of

# After a notification for one commit, and after one for several: whoever finds work looks again by itself.
_PAUSE_SECONDS, _BUSY_PAUSE_SECONDS = 0.02, 0.05
# How long `close` waits for what is pending.
_CLOSE_SECONDS = 1.0
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.1, 30.0
# So many names are kept while they cannot be sent.
_MOST_QUEUES = 1_000


class Notifier:
    """Tells other processes, from a thread of its own: at once after a rest, else after a pause and for all in one."""

    def __init__(self, connect: Callable[[], "Channel"]) -> None:
        self.backend: int | None = None
        self._connect = connect
        self._channel: Channel | None = None
        self._lock = Lock()
        self._thread: Thread | None = None
        self._queues: set[str] = set()
        self._commits = 0
        self._something = Event()
        self._closing = Event()
        self._rest = _FIRST_REST_SECONDS
        self._complain = Complaint("workers in other processes are not woken and find work when they poll: %s")

    def tell(self, queues: Collection[str]) -> None:
        """Leave word; never waits for the database."""
        with self._lock:
            self._commits += 1
            self._add(queues)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="heimdex-notify", daemon=True)
                self._thread.start()
        self._something.set()

    def close(self) -> None:
        """Send what is pending, if it takes no longer than a moment."""
        self._closing.set()
        self._something.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _add(self, queues: Collection[str]) -> None:
        self._queues.update(queues)
        if len(self._queues) > _MOST_QUEUES:
            self._queues = {OF_ANY_QUEUE}

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            self._something.wait()
            pause = self._send_pending()
        self._send_pending()
        self._hang_up()

    def _send_pending(self) -> float:
        """Send what is pending, and return how long to pause."""
        with self._lock:
            self._something.clear()
            queues, self._queues = self._queues, set()
            commits, self._commits = self._commits, 0
        if not queues:
            return 0.0
        try:
            self._send(payload_of(queues))
        except Exception as error:  # noqa: BLE001 - whatever it is, creators go on and workers poll
            self._hang_up()
            self._complain(error)
            with self._lock:
                self._add(queues)
            self._something.set()
            pause, self._rest = self._rest, min(2 * self._rest, _LONGEST_REST_SECONDS)
            return pause
        self._rest = _FIRST_REST_SECONDS
        return _PAUSE_SECONDS if commits == 1 else _BUSY_PAUSE_SECONDS

    def _send(self, payload: str) -> None:
        is_new = self._channel is None
        try:
            self._notify(payload)
        except psycopg2.Error:
            if is_new:
                raise
            # The server has ended it while it rested.
            self._hang_up()
            self._notify(payload)

    def _notify(self, payload: str) -> None:
        if self._channel is None:
            self._channel = self._connect()
            self.backend = self._channel.backend
        self._channel.notify(payload)

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None
