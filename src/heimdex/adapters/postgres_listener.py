"""Hears what other processes that work on a PostgreSQL database tell of work."""

import select
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from random import SystemRandom
from threading import Thread

from psycopg2.extensions import Notify

from heimdex.adapters.postgres_channel import Channel, Complaint

_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.1, 30.0
# A connection that was there for so long was a good one.
_STEADY_SECONDS = 10.0


class Listener:
    """Listens in a thread of its own until it is stopped, and connects again when the connection is lost.

    Args:
        hear: called with notifications, and with None each time it begins to listen.
    """

    def __init__(self, connect: Callable[[], "Channel"], hear: Callable[[Collection[Notify] | None], None]) -> None:
        self._connect = connect
        self._hear = hear
        self._stop, self._stopped = socket.socketpair()
        self._complain = Complaint("wake-ups of other processes are not heard, looking again; polling goes on: %s")
        self._chance = SystemRandom()
        Thread(target=self._run, name="heimdex-listen", daemon=True).start()

    def stop(self) -> None:
        with suppress(OSError):
            self._stop.send(b"\n")
        self._stop.close()

    def let_go(self) -> None:
        """Close, in a forked child, what belongs to the listener of its parent."""
        self._stop.close()
        self._stopped.close()

    def _run(self) -> None:
        rest = _FIRST_REST_SECONDS
        with self._stopped:
            while True:
                began = time.monotonic()
                try:
                    self._listen_until_stopped()
                except Exception as error:  # noqa: BLE001 - whatever it is, the worker polls
                    self._complain(error)
                else:
                    return
                if time.monotonic() - began > _STEADY_SECONDS:
                    rest = _FIRST_REST_SECONDS
                # After the end of a server not all at once.
                if self._wait(self._chance.uniform(rest / 2, rest)):
                    return
                rest = min(2 * rest, _LONGEST_REST_SECONDS)

    def _listen_until_stopped(self) -> None:
        channel = self._connect()
        try:
            channel.listen()
            self._hear(None)
            while not self._wait(None, channel):
                self._hear(channel.notifications())
        finally:
            channel.close()

    def _wait(self, seconds: float | None, channel: "Channel | None" = None) -> bool:
        """Wait until something comes; return whether that was the end."""
        poll = select.poll()
        stopped = self._stopped.fileno()
        poll.register(stopped, select.POLLIN)
        if channel is not None:
            poll.register(channel.fileno(), select.POLLIN)
        return any(file == stopped for file, _ in poll.poll(None if seconds is None else seconds * 1_000))
