"""An asyncio event loop in a thread of its own, where async job functions run."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread


class EventLoop:
    """Its daemon thread begins with the first call. Callers take turns: this class has no lock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._closing = asyncio.Event()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, after those that were given before; return at once. Once closed, do nothing."""
        if self._closed:
            return
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            Thread(target=self._run, args=[self._loop], name=self._name, daemon=True).start()
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End the loop: what still runs on it is cancelled, and nobody waits for that."""
        if self._loop is not None:
            self.call(self._closing.set)
        self._closed = True

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            while not self._closing.is_set():
                # A task of a job function may raise these out of the loop. That job fails; the others go on.
                with suppress(SystemExit, KeyboardInterrupt):
                    runner.run(self._closing.wait())
