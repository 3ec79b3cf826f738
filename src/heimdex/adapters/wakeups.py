"""Wake-ups inside one process."""

from collections.abc import Callable, Collection
from threading import Lock

from attrs import frozen

from heimdex.service_layer.ports import Wakeups


@frozen(eq=False)
class _Subscription:
    listener: Callable[[], None]
    queues: frozenset[str] | None

    def wants(self, queues: Collection[str]) -> bool:
        return self.queues is None or not self.queues.isdisjoint(queues)


class LocalWakeups(Wakeups):
    """Calls the listeners of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscriptions: tuple[_Subscription, ...] = ()

    def wake(self, queues: Collection[str], commit_seconds: float = 0.0) -> None:
        for subscription in self._subscriptions if queues else ():
            if subscription.wants(queues):
                subscription.listener()

    def wake_all(self) -> None:
        for subscription in self._subscriptions:
            subscription.listener()

    def subscribe(self, listener: Callable[[], None], queues: Collection[str] | None = None) -> Callable[[], None]:
        subscription = _Subscription(listener, None if queues is None else frozenset(queues))
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            with self._lock:
                self._subscriptions = tuple(kept for kept in self._subscriptions if kept is not subscription)

        return unsubscribe

    def close(self) -> None:
        pass
