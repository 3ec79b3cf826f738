"""Wake-ups inside one process."""

from collections.abc import Callable, Collection
from threading import Lock

from heimdex.service_layer.ports import Wakeups


class LocalWakeups(Wakeups):
    """Calls every listener of this process. Which queues have work is left to the listeners' own looking."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: list[Callable[[], None]] = []

    def wake(self, queues: Collection[str]) -> None:
        with self._lock:
            listeners = tuple(self._listeners) if queues else ()
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe
