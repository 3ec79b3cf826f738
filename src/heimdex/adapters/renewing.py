"""Renewals of leases by a small process beside the worker: the worker's side of it."""

import json
import math
import mmap
import os
import subprocess
import sys
import tempfile
import time
import weakref
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


class ProcessRenewer(Renewer):
    """Starts the process with the first hold, and again when it has died. All they say to each other is in a table.

    Args:
        instructions: gives what the process needs to know of the database; called whenever one is started.
        most: one hold more is not renewed here.
    """

    def __init__(self, instructions: Callable[[], Mapping[str, Any]], *, every: timedelta, most: int) -> None:
        self._instructions = instructions
        self._every = every.total_seconds()
        self._size = most * process.SLOT_SIZE
        self._file = _anonymous_file(self._size)
        # Also for a worker that was made and never used.
        self._close_file = weakref.finalize(self, os.close, self._file)
        self._table = mmap.mmap(self._file, self._size)
        self._free = list(range(0, self._size, process.SLOT_SIZE))
        # By what is quick to hash: this is done for every job.
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        self._ticket = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._look_at = time.monotonic()
        self._closed = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def add(self, hold: Hold, *, until: float) -> None:
        now = time.monotonic()
        if not self._free:
            return
        self._ticket += 1
        place = self._free.pop()
        self._places[_key(hold)] = place, self._ticket
        process.HOLD.pack_into(self._table, place, hold.job_id.bytes, hold.lease_seq, until, now)
        process.TICKET.pack_into(self._table, place + process.TICKET_AT, self._ticket)
        self._look_after(now)

    def remove(self, hold: Hold) -> None:
        found = self._places.pop(_key(hold), None)
        if found is not None:
            place, _ = found
            process.TICKET.pack_into(self._table, place + process.TICKET_AT, _FREE)
            self._free.append(place)

    def renewed_at(self, hold: Hold) -> float | None:
        self._look_after(time.monotonic())
        found = self._places.get(_key(hold))
        if found is None:
            return None
        place, ticket = found
        # The time is written before the ticket, so it is read after it.
        (renewed,) = process.TICKET.unpack_from(self._table, place + process.RENEWED_TICKET_AT)
        (renewed_at,) = process.RENEWED.unpack_from(self._table, place + process.RENEWED_AT)
        return float(renewed_at) if renewed == ticket else None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end()
        # Whoever still asks hears that nothing is held here.
        self._places.clear()
        self._free.clear()
        self._look_at = math.inf
        self._table.close()
        self._close_file()

    def _look_after(self, now: float) -> None:
        """Start the process if there is none, at most once between two renewals."""
        if now < self._look_at:
            return
        self._look_at = now + self._every
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        # Whatever keeps it from starting: the worker's loop renews by itself.
        with suppress(HeimdexError, OSError, subprocess.SubprocessError):
            self._start()

    def _start(self) -> None:
        instructions = {
            **self._instructions(),
            "worker": os.getpid(),
            "every": self._every,
            "table": self._file,
            "size": self._size,
        }
        # Isolated and without site packages: nothing of the environment is imported, and little of anything.
        command = (sys.executable, "-I", "-S", process.__file__)
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and our own file
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=(self._file,),
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


def _key(hold: Hold) -> tuple[int, int]:
    return hold.job_id.int, hold.lease_seq


def _anonymous_file(size: int) -> int:
    """Return a file without a name, in memory where the system has such."""
    if sys.platform == "linux":
        file = os.memfd_create("heimdex-leases")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.truncate(file, size)
    return file
