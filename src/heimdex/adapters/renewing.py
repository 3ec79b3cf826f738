"""Renewals of leases by a small process beside the worker: the worker's side of it."""

import json
import logging
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from heimdex.adapters import renewing_process as process
from heimdex.domain.errors import HeimdexError
from heimdex.domain.job import Hold
from heimdex.service_layer.ports import Renewer

_LEAVE_SECONDS = 1.0
_FREE = 0
# How often to say that there is none.
_WARN_SECONDS = 60.0
_NOT_STARTED = "the process that renews leases cannot be started, and the worker renews by itself: %s"


def has_python() -> bool:
    """Return whether a script can be run: where an application is frozen, its executable is the application."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class ProcessRenewer(Renewer):
    """Starts the process with the first hold, and again when it has died. All they say to each other is in a table.

    Args:
        instructions: gives what the process needs to know of the database; called whenever one is started, by a loop
            that must not wait.
        most: one hold more is not renewed here.
    """

    def __init__(self, instructions: Callable[[], Mapping[str, Any]], *, every: timedelta, most: int) -> None:
        self._instructions = instructions
        self._every = every.total_seconds()
        self._most = most
        # Made with the first hold: where a worker is made before forks, each of them needs a table of its own.
        self._table: _Table | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._look_at = self._warn_at = time.monotonic()
        self._closed = False
        self._log = logging.getLogger("heimdex.worker")

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def add(self, hold: Hold, *, until: float) -> None:
        if self._closed:
            return
        now = time.monotonic()
        if self._table is None:
            try:
                self._table = _Table(self._most)
            except OSError as error:
                self._warn(now, _NOT_STARTED, error)
                return
        self._table.put(hold, until, now)
        self._look_after(now)

    def remove(self, hold: Hold) -> None:
        if self._table is not None:
            self._table.take(hold)

    def renewed_at(self, hold: Hold) -> float | None:
        if self._table is None:
            return None
        self._look_after(time.monotonic())
        return self._table.renewed_at(hold)

    def close(self) -> None:
        self._closed = True
        self._end()
        if self._table is not None:
            self._table.close()
        # Whoever still asks hears that nothing is held here.
        self._table = None

    def _look_after(self, now: float) -> None:
        """Start the process if there is none, at most once between two renewals."""
        if now < self._look_at:
            return
        self._look_at = now + self._every
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._end()
            self._warn(now, "the process that renews leases ended with code %d, starting another", code)
        # Whatever keeps it from starting: the worker's loop renews by itself.
        try:
            self._start()
        except (HeimdexError, OSError, subprocess.SubprocessError) as error:
            self._warn(now, _NOT_STARTED, error)

    def _warn(self, now: float, message: str, cause: object) -> None:
        if now >= self._warn_at:
            self._warn_at = now + _WARN_SECONDS
            self._log.warning(message, cause)

    def _start(self) -> None:
        table = self._table
        if table is None:
            return
        instructions = {
            **self._instructions(),
            "worker": os.getpid(),
            "every": self._every,
            "table": table.file,
            "size": table.size,
        }
        # Isolated and without site packages: nothing of the environment is imported, and little of anything.
        command = (sys.executable, "-I", "-S", process.__file__)
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and our own file
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=(table.file,),
        )
        self._say(json.dumps(instructions).encode() + b"\n")

    def _say(self, words: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(words)

    def _end(self) -> None:
        """Let the process go. A word tells it, since a fork of this process may keep its input open."""
        if self._process is None:
            return
        with suppress(OSError):
            self._say(b"\n")
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class _Table:
    """The worker's side of the table: which hold stands where."""

    def __init__(self, most: int) -> None:
        self.size = most * process.SLOT_SIZE
        self.file = _anonymous_file()
        try:
            os.truncate(self.file, self.size)
            self._memory = mmap.mmap(self.file, self.size)
        except OSError:
            os.close(self.file)
            raise
        self._free = list(range(0, self.size, process.SLOT_SIZE))
        self._places: dict[Hold, tuple[int, int]] = {}
        self._ticket = 0

    def put(self, hold: Hold, until: float, since: float) -> None:
        """Write a hold where a place is free."""
        if not self._free:
            return
        self._ticket += 1
        place = self._free.pop()
        self._places[hold] = place, self._ticket
        process.HOLD.pack_into(self._memory, place, hold.job_id.bytes, hold.lease_seq, until, since)
        process.TICKET.pack_into(self._memory, place + process.TICKET_AT, self._ticket)

    def take(self, hold: Hold) -> None:
        found = self._places.pop(hold, None)
        if found is not None:
            place, _ = found
            process.TICKET.pack_into(self._memory, place + process.TICKET_AT, _FREE)
            self._free.append(place)

    def renewed_at(self, hold: Hold) -> float | None:
        found = self._places.get(hold)
        if found is None:
            return None
        place, ticket = found
        # The time is written before the ticket, so it is read after it.
        (renewed,) = process.TICKET.unpack_from(self._memory, place + process.RENEWED_TICKET_AT)
        (renewed_at,) = process.RENEWED.unpack_from(self._memory, place + process.RENEWED_AT)
        return float(renewed_at) if renewed == ticket else None

    def close(self) -> None:
        self._memory.close()
        os.close(self.file)


def _anonymous_file() -> int:
    """Return a file without a name, in memory where the system has such."""
    if sys.platform == "linux":
        file = os.memfd_create("heimdex-leases")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    return file
