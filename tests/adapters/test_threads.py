"""Threads that run job functions, and the inbox in which a worker's loop waits."""

import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from queue import SimpleQueue

from heimdex.adapters.threads import QueueInbox, ThreadRunner

PATIENCE = timedelta(seconds=20)
SECONDS = PATIENCE.total_seconds()
NO_WAIT = timedelta(0)


def first() -> None: ...


def second() -> None: ...


# The inbox


def test_messages_come_out_in_the_order_in_which_they_were_put_in() -> None:
    inbox = QueueInbox()
    inbox.put(first)
    inbox.put(second)

    assert [inbox.get(PATIENCE), inbox.get(NO_WAIT), inbox.get(NO_WAIT)] == [first, second, None]


def test_a_wait_ends_with_nothing_after_its_time() -> None:
    before = time.monotonic()

    assert QueueInbox().get(timedelta(milliseconds=20)) is None
    assert time.monotonic() - before >= 0.02


def test_a_message_from_another_thread_ends_the_wait() -> None:
    inbox = QueueInbox()
    threading.Timer(0.01, inbox.put, [first]).start()

    assert inbox.get(PATIENCE) is first


def test_a_signal_handler_may_put_a_message_while_the_loop_waits() -> None:
    inbox = QueueInbox()
    before = signal.signal(signal.SIGALRM, lambda *_: inbox.put(first))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert inbox.get(PATIENCE) is first
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# The runner


def results_of(runner: ThreadRunner, pieces: list[Callable[[], object]]) -> list[object]:
    """Run pieces of work and return what they return, in the order in which they end."""
    results: SimpleQueue[object] = SimpleQueue()

    def run(piece: Callable[[], object]) -> None:
        results.put(piece())

    for piece in pieces:
        runner.submit(partial(run, piece))
    return [results.get(timeout=SECONDS) for _ in pieces]


def test_one_slot_runs_its_work_in_the_order_given() -> None:
    runner = ThreadRunner(1)

    assert results_of(runner, [partial(int, n) for n in range(20)]) == list(range(20))
    runner.close()


def test_work_runs_in_daemon_threads_which_end_when_the_runner_is_closed() -> None:
    runner = ThreadRunner(1, name="test")
    [thread] = results_of(runner, [threading.current_thread])
    assert isinstance(thread, threading.Thread)
    assert (thread.name, thread.daemon) == ("test-1", True)
    runner.close()
    thread.join(SECONDS)

    assert not thread.is_alive()


def test_as_many_pieces_run_at_a_time_as_there_are_slots() -> None:
    runner = ThreadRunner(3)
    # Passed only when three are there at once.
    meeting = threading.Barrier(3, timeout=SECONDS)

    assert set(results_of(runner, [meeting.wait] * 6)) == {0, 1, 2}
    assert len(runner._threads) == runner.slots == 3
    runner.close()


def test_no_thread_is_started_before_there_is_work() -> None:
    runner = ThreadRunner(4)
    assert runner._threads == []
    results_of(runner, [first])

    assert len(runner._threads) == 1
    runner.close()


def test_work_that_was_submitted_before_the_close_is_still_run() -> None:
    runner, results = ThreadRunner(1), SimpleQueue[int]()
    gate = threading.Event()
    runner.submit(lambda: results.put(int(gate.wait(SECONDS))))
    runner.submit(lambda: results.put(2))
    runner.close()
    gate.set()

    assert [results.get(timeout=SECONDS) for _ in range(2)] == [1, 2]


def test_closing_does_not_wait_for_work_that_hangs() -> None:
    runner, gate, ended = ThreadRunner(1), threading.Event(), threading.Event()

    def hang() -> None:
        gate.wait(SECONDS)
        ended.set()

    runner.submit(hang)
    runner.close()

    assert not ended.is_set()
    gate.set()
    assert ended.wait(SECONDS)
