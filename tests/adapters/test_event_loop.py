"""Async work in the runner: one event loop in a thread of its own, and slots that it shares with plain work."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from queue import SimpleQueue

import pytest

from heimdex.adapters.threads import ThreadRunner

SECONDS = 20.0
LOOP = "test-loop"


@pytest.fixture(autouse=True)
def no_loop_is_left() -> Iterator[None]:
    yield
    for thread in loops():
        thread.join(SECONDS)
    assert loops() == []


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner(2, name="test")
    yield runner
    runner.close()


def loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == LOOP]


async def for_ever() -> None:
    await asyncio.Event().wait()


class Standstill:
    """Work that keeps the loop from doing anything else until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    async def work(self) -> None:
        self.begun.set()
        self.release.wait(SECONDS)


def passes(runner: ThreadRunner) -> bool:
    """Return whether plain work still gets a slot."""
    done = threading.Event()
    runner.submit(done.set)
    return done.wait(SECONDS)


def test_async_work_runs_in_one_daemon_thread_that_begins_with_the_first(runner: ThreadRunner) -> None:
    assert loops() == []
    threads = SimpleQueue[threading.Thread]()

    async def work() -> None:
        threads.put(threading.current_thread())

    for _ in range(5):
        runner.submit_async(work)
    used = {threads.get(timeout=SECONDS) for _ in range(5)}

    assert [(thread.name, thread.daemon) for thread in used] == [(LOOP, True)]


def test_plain_and_async_work_begin_in_the_order_given_and_share_the_slots() -> None:
    runner, begun, gates = ThreadRunner(2, name="test"), SimpleQueue[int](), [threading.Event() for _ in range(6)]

    def plain(n: int) -> Callable[[], None]:
        def work() -> None:
            begun.put(n)
            gates[n].wait(SECONDS)

        return work

    def not_plain(n: int) -> Callable[[], Coroutine[object, object, None]]:
        async def work() -> None:
            begun.put(n)
            await asyncio.to_thread(gates[n].wait, SECONDS)

        return work

    for n in range(6):
        if n % 2:
            runner.submit_async(not_plain(n))
        else:
            runner.submit(plain(n))
    order = sorted(begun.get(timeout=SECONDS) for _ in range(2))
    for n in range(4):
        assert begun.empty()
        gates[n].set()
        order.append(begun.get(timeout=SECONDS))
    for gate in gates:
        gate.set()
    runner.close()

    assert order == list(range(6))


def test_interrupted_work_is_cancelled_and_its_slot_comes_back(runner: ThreadRunner) -> None:
    told = SimpleQueue[str]()

    async def work() -> None:
        told.put("begun")
        try:
            await for_ever()
        finally:
            told.put("ended")

    interrupts = [runner.submit_async(work) for _ in range(2)]
    assert [told.get(timeout=SECONDS) for _ in interrupts] == ["begun"] * 2
    for interrupt in interrupts:
        interrupt()

    assert [told.get(timeout=SECONDS) for _ in interrupts] == ["ended"] * 2
    assert passes(runner)


def test_work_that_waits_for_a_slot_and_is_interrupted_never_begins(runner: ThreadRunner) -> None:
    begun: list[str] = []

    async def work() -> None:
        begun.append("late")

    blockers = [runner.submit_async(for_ever) for _ in range(2)]
    runner.submit_async(work)()
    for interrupt in blockers:
        interrupt()

    assert passes(runner)
    assert begun == []


def test_interrupted_work_gives_its_slot_back_though_the_loop_stands_still(runner: ThreadRunner) -> None:
    standstill, begun = Standstill(), list[str]()

    async def work() -> None:
        begun.append("late")

    runner.submit_async(standstill.work)
    assert standstill.begun.wait(SECONDS)
    interrupt = runner.submit_async(work)
    interrupt()
    interrupt()

    assert passes(runner)
    standstill.release.set()
    assert passes(runner)
    assert begun == []


def test_work_that_is_interrupted_as_soon_as_it_is_given_leaves_no_slot_taken(runner: ThreadRunner) -> None:
    for _ in range(50):
        runner.submit_async(for_ever)()

    assert passes(runner)


def test_an_interrupt_after_the_end_does_nothing(runner: ThreadRunner) -> None:
    ended = threading.Event()

    async def work() -> None:
        ended.set()

    interrupt = runner.submit_async(work)
    assert ended.wait(SECONDS)
    interrupt()
    interrupt()

    assert passes(runner)


def test_a_task_that_raises_system_exit_leaves_the_loop_in_place(runner: ThreadRunner) -> None:
    raised = threading.Event()

    async def leave() -> None:
        raise SystemExit

    async def work() -> None:
        try:
            await asyncio.create_task(leave())
        except SystemExit:
            raised.set()

    for _ in range(3):
        raised.clear()
        runner.submit_async(work)
        assert raised.wait(SECONDS)


def test_closing_cancels_what_still_runs_on_the_loop_and_waits_for_nothing() -> None:
    runner, begun, told = ThreadRunner(1, name="test"), threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await for_ever()
        finally:
            told.set()

    runner.submit_async(work)
    assert begun.wait(SECONDS)
    runner.close()

    assert told.wait(SECONDS)


def test_plain_work_that_ends_after_the_close_finds_the_loop_gone() -> None:
    runner, gate = ThreadRunner(2, name="test"), threading.Event()
    interrupt = runner.submit_async(for_ever)

    def work() -> None:
        gate.wait(SECONDS)

    runner.submit(work)
    runner.close()
    for thread in loops():
        thread.join(SECONDS)
    interrupt()
    gate.set()
    for thread in runner._threads:
        thread.join(SECONDS)

    assert not any(thread.is_alive() for thread in runner._threads)
