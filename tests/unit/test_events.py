"""The event stream: every reader gets everything, and none delays another."""

import asyncio
import gc

from tapbond.events import BACKLOG, EventStream
from tapbond.model import CarrierChanged, Event


def event(n: int) -> CarrierChanged:
    return CarrierChanged(failover=f"tb{n}", carrier=True)


async def collect(stream: EventStream) -> list[Event]:
    return [found async for found in stream.subscribe()]


async def test_every_reader_gets_every_event_in_order() -> None:
    stream = EventStream()
    readers = [asyncio.create_task(collect(stream)) for _ in range(3)]
    await asyncio.sleep(0)
    for n in range(10):
        stream.emit(event(n))
    stream.emit(None)
    assert await asyncio.gather(*readers) == [[event(n) for n in range(10)]] * 3


async def test_nothing_is_lost_between_subscribing_and_reading() -> None:
    stream = EventStream()
    events = stream.subscribe()
    stream.emit(event(1))
    assert await anext(events) == event(1)
    await events.aclose()


async def test_what_was_before_is_not_told() -> None:
    stream = EventStream()
    stream.emit(event(1))
    events = stream.subscribe()
    stream.emit(event(2))
    assert await anext(events) == event(2)
    await events.aclose()


async def test_a_slow_reader_loses_the_oldest_and_delays_nobody() -> None:
    stream = EventStream()
    slow, quick = stream.subscribe(), stream.subscribe()
    got = []
    for n in range(BACKLOG + 100):
        stream.emit(event(n))
        got.append(await anext(quick))
    assert got == [event(n) for n in range(BACKLOG + 100)]
    stream.emit(None)
    rest = [found async for found in slow]
    assert rest == [event(n) for n in range(101, BACKLOG + 100)]
    await quick.aclose()


async def test_a_reader_that_leaves_is_forgotten() -> None:
    stream = EventStream()
    events = stream.subscribe()
    stream.emit(event(1))
    await anext(events)
    await events.aclose()
    assert len(stream._readers) == 0


async def test_a_reader_that_never_read_is_forgotten_too() -> None:
    stream = EventStream()
    for _ in range(3):
        stream.subscribe()
    gc.collect()
    await asyncio.sleep(0)
    stream.emit(event(1))
    assert len(stream._readers) == 0


async def test_nobody_listening_is_fine() -> None:
    stream = EventStream()
    stream.emit(event(1))
    stream.emit(None)
