"""How much audio sessions keep before their clients must wait."""

import asyncio

from gateway.live.room import LEAST_BYTES, Room, Rooms

MIB = 1024**2


async def waits(room: Room) -> bool:
    """Whether a reader would wait now."""
    reader = asyncio.ensure_future(room.wait())
    await asyncio.sleep(0)
    reader.cancel()
    return not reader.done()


async def test_a_session_that_keeps_its_most_is_not_read_from_until_some_is_gone() -> None:
    room = Rooms(each=64 * MIB, together=1024 * MIB, most_sessions=64).enter()
    room.keeps(64 * MIB)
    assert room.is_full
    assert await waits(room)
    room.keeps(63 * MIB)

    assert not await waits(room)


async def test_where_all_together_keep_too_much_each_has_its_share() -> None:
    rooms = Rooms(each=64 * MIB, together=100 * MIB, most_sessions=5)
    one, two, three = (rooms.enter() for _ in range(3))
    one.keeps(50 * MIB)
    two.keeps(51 * MIB)
    three.keeps(MIB)

    assert (one.is_full, two.is_full, three.is_full) == (True, True, False)


async def test_who_leaves_makes_room_for_others() -> None:
    rooms = Rooms(each=64 * MIB, together=100 * MIB, most_sessions=5)
    one, two = rooms.enter(), rooms.enter()
    one.keeps(60 * MIB)
    two.keeps(50 * MIB)
    assert await waits(two)
    one.leave()

    assert not await waits(two)
    assert rooms.kept_bytes == 50 * MIB


def test_every_session_may_keep_what_an_engine_needs_to_get_on() -> None:
    rooms = Rooms(each=1, together=1, most_sessions=64)
    room = rooms.enter()
    room.keeps(LEAST_BYTES - 1)

    assert not room.is_full
