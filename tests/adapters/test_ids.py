"""UUIDv7s: they sort in the order in which they were drawn, whatever the clock does and however many threads draw."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from heimdex.adapters.ids import UuidSeven

NOON = 1_767_268_800_000


def milliseconds_of(id: UUID) -> int:
    return id.int >> 80


def test_an_id_has_the_layout_of_the_standard() -> None:
    # RFC 9562, A.6, but for rand_a, which is a counter here.
    id = UuidSeven(milliseconds=lambda: 0x017F22E279B0, random_bits=lambda _: 0x18C4DC0C0C07398F)()

    assert (id.version, id.variant) == (7, RFC_4122)
    assert str(id) == "017f22e2-79b0-7000-98c4-dc0c0c07398f"


def test_the_real_clock_and_real_chance_make_different_ids_that_ascend() -> None:
    draw = UuidSeven()
    ids = [draw() for _ in range(5_000)]

    assert ids == sorted(set(ids))
    assert {(id.version, id.variant) for id in ids} == {(7, RFC_4122)}


@given(st.lists(st.integers(-5_000, 5_000), min_size=1), st.integers(0, 2**62 - 1))
def test_ids_ascend_even_when_the_clock_steps_back(steps: list[int], chance: int) -> None:
    times = iter(steps)
    draw = UuidSeven(milliseconds=lambda: NOON + next(times), random_bits=lambda _: chance)
    ids = [draw() for _ in steps]

    assert all(earlier < later for earlier, later in pairwise(ids))
    assert milliseconds_of(ids[-1]) == NOON + max(steps)


def test_ids_of_one_millisecond_ascend_beyond_what_its_counter_holds() -> None:
    draw = UuidSeven(milliseconds=lambda: NOON, random_bits=lambda _: 0)
    ids = [draw() for _ in range(4_097)]

    assert ids == sorted(set(ids))
    assert [milliseconds_of(id) - NOON for id in (ids[0], ids[4_095], ids[4_096])] == [0, 0, 1]


def test_a_clock_that_goes_on_takes_the_lead_again() -> None:
    times = iter([NOON, NOON - 5, NOON + 7])
    draw = UuidSeven(milliseconds=lambda: next(times), random_bits=lambda _: 0)

    assert [milliseconds_of(draw()) - NOON for _ in range(3)] == [0, 0, 7]


def test_many_threads_draw_no_id_twice_and_each_sees_its_own_ascend() -> None:
    draw = UuidSeven(milliseconds=lambda: NOON, random_bits=lambda _: 0)
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: [draw() for _ in range(1_000)], range(8)))

    assert all(ids == sorted(ids) for ids in drawn)
    assert len({id for ids in drawn for id in ids}) == 8_000
