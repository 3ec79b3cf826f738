"""Where job functions run and where the worker's loop waits: threads of this process."""

from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Thread

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


class ThreadRunner(Runner):
    """Daemon threads that take work from one queue: a function that hangs must not keep the process from ending."""

    def __init__(self, slots: int, name: str = "heimdex") -> None:
        self._slots = slots
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        if len(self._threads) < self._slots:
            thread = Thread(target=self._run, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
