"""A worker as a process: signals ask it to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from heimdex.service_layer.worker import Worker

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_worker(worker: Worker, look: Callable[[], object] = lambda: None) -> signal.Signals | None:
    """Run a worker until it has stopped. To be called in the main thread.

    SIGTERM and SIGINT ask it to stop; a second signal ends the grace.

    Args:
        look: called between steps, in this thread.

    Returns:
        The first signal that came; None when the worker stopped by itself or was asked to from here.
    """
    with _stopped_by_signals(worker) as received:
        worker.run(look)
    return received[0] if received else None


@contextmanager
def _stopped_by_signals(worker: Worker) -> Iterator[list[signal.Signals]]:
    received: list[signal.Signals] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number))
        worker.stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
