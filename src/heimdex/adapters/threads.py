"""Where job functions run and where the worker's loop waits: threads of this process."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from attrs import define

from heimdex.adapters.event_loop import EventLoop
from heimdex.service_layer.ports import Inbox, Runner


class QueueInbox(Inbox):
    # SimpleQueue.put may be interrupted by itself, so that a signal handler may call it.
    def __init__(self) -> None:
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def put(self, message: Callable[[], None]) -> None:
        self._messages.put(message)

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        try:
            # A wait of no length would still let go of the interpreter.
            return self._messages.get(timeout=timeout.total_seconds()) if timeout else self._messages.get_nowait()
        except Empty:
            return None


@define(eq=False)
class _AsyncWork:
    """A piece of async work on its way: it waits for a slot, has one, runs as a task, or was dropped before that."""

    work: Callable[[], Coroutine[object, object, None]]
    has_slot: bool = False
    dropped: bool = False
    task: "asyncio.Task[None] | None" = None


class ThreadRunner(Runner):
    """Plain work runs in threads, async work on one event loop; both take slots, in the order given.

    All its threads are daemons: a function that hangs must not keep the process from ending.
    """

    def __init__(self, slots: int, name: str = "heimdex") -> None:
        self._slots = slots
        self._name = name
        self._lock = Lock()
        self._free = slots
        # What waits for a slot.
        self._waiting: deque[Callable[[], None] | _AsyncWork] = deque()
        self._closed = False
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._loop = EventLoop(f"{name}-loop")

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, *pieces: Callable[[], None]) -> None:
        self._wait_for_slot(*pieces)

    def submit_async(self, work: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
        piece = _AsyncWork(work)
        self._wait_for_slot(piece)
        return partial(self._interrupt, piece)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._go_on()

    def _wait_for_slot(self, *pieces: Callable[[], None] | _AsyncWork) -> None:
        with self._lock:
            self._waiting.extend(pieces)
            if self._free:
                self._go_on()

    def _free_slot(self) -> None:
        with self._lock:
            self._free += 1
            self._go_on()

    # The rest up to the next headline is called with the lock held.

    def _go_on(self) -> None:
        """Start what waits, as far as there are slots; once closed, let the threads end after the last of it."""
        while self._free and self._waiting:
            work = self._waiting.popleft()
            if isinstance(work, _AsyncWork):
                self._free -= self._start_async(work)
            else:
                self._start(work)
                self._free -= 1
        if self._closed and not self._waiting:
            for _ in self._threads:
                self._work.put(None)
            self._loop.close()

    def _start(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        if len(self._threads) < self._slots:
            thread = Thread(target=self._run, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _start_async(self, piece: _AsyncWork) -> bool:
        if not piece.dropped:
            piece.has_slot = True
            self._loop.call(partial(self._begin, piece))
        return piece.has_slot

    # In other threads

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            while (work := self._next()) is not None:
                work()

    def _next(self) -> Callable[[], None] | None:
        """Return what this thread runs next in its slot; None: it lets go of the slot."""
        with self._lock:
            first = self._waiting[0] if self._waiting else None
            if first is not None and not isinstance(first, _AsyncWork):
                self._waiting.popleft()
                return first
            self._free += 1
            self._go_on()
            return None

    def _begin(self, piece: _AsyncWork) -> None:
        with self._lock:
            if piece.dropped:
                return
            piece.task = asyncio.get_running_loop().create_task(piece.work())
        # Not within the work: when the loop ends, a task may be cancelled before its first step.
        piece.task.add_done_callback(lambda _: self._free_slot())

    def _interrupt(self, piece: _AsyncWork) -> None:
        with self._lock:
            if piece.task is not None:
                self._loop.call(piece.task.cancel)
            elif not piece.dropped:
                # The loop may stand still, so the slot is not left to it.
                piece.dropped = True
                self._free += piece.has_slot
                self._go_on()
