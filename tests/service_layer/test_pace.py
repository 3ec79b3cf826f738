"""How far ahead a worker claims, and when its timers are due."""

from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.service_layer.pace import Pace, Timer


def pace(seconds: float, *, slots: int = 4, most: int = 100) -> Pace:
    """Return a pace that has seen many runs of so many seconds."""
    made = Pace(slots=slots, most=most)
    for _ in range(100):
        made.observe(seconds)
    return made


def test_long_jobs_are_claimed_one_for_each_slot() -> None:
    assert [pace(60.0).room(held, 0) for held in range(5)] == [4, 3, 2, 1, 0]


def test_short_jobs_are_claimed_ahead_once_half_of_them_have_ended() -> None:
    # In half a second, four slots run 20 jobs of a tenth of a second.
    assert [pace(0.099).room(held, 0) for held in (0, 9, 10, 11, 19)] == [20, 11, 10, 0, 0]


def test_two_claims_share_the_room_but_each_may_fill_the_slots() -> None:
    short, long = Pace(slots=4, most=100, claims=2), Pace(slots=4, most=100, claims=2)
    for _ in range(100):
        short.observe(0.0)
        long.observe(60.0)

    assert [short.room(held, 0) for held in (0, 30, 50, 51)] == [50, 50, 50, 0]
    assert [long.room(held, 0) for held in range(5)] == [4, 3, 2, 1, 0]


def test_jobs_that_take_no_time_are_claimed_up_to_the_batch() -> None:
    assert [pace(0.0).room(0, busy) for busy in (0, 1, 3)] == [100, 99, 97]


def test_before_the_first_run_each_slot_gets_one() -> None:
    assert Pace(slots=3, most=100).room(0, 0) == 3


def test_busy_slots_get_nothing() -> None:
    assert [pace(0.099).room(0, busy) for busy in range(5)] == [20, 15, 10, 5, 0]


@settings(max_examples=20)
@given(
    seconds=st.floats(0, 10_000),
    slots=st.integers(1, 20),
    extra=st.integers(0, 100),
    held=st.integers(0, 200),
    data=st.data(),
)
def test_a_worker_never_holds_more_than_it_may(
    seconds: float, slots: int, extra: int, held: int, data: st.DataObject
) -> None:
    busy = data.draw(st.integers(0, slots))
    room = pace(seconds, slots=slots, most=slots + extra).room(held, busy)

    assert room >= 0
    assert room == 0 or held + busy + room <= slots + extra
    assert room > 0 or held >= slots - busy


def test_a_timer_stays_due_until_it_is_restarted() -> None:
    timer = Timer(every=5.0, due_at=10.0)

    assert [timer.is_due(now) for now in (9.9, 10.0, 11.0)] == [False, True, True]
    timer.restart(11.0)
    assert timer.due_at == 16.0


def test_a_timer_can_be_put_off_but_not_brought_forward() -> None:
    timer = Timer(every=5.0, due_at=10.0)
    timer.postpone(12.0)
    timer.postpone(11.0)

    assert timer.due_at == 12.0
