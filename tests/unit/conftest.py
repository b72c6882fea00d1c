"""The loops that the unit tests run on: the pump's on both that a user may have, the others on asyncio's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

ON_BOTH_LOOPS = (
    "test_pump.py",
    "test_pump_announce.py",
    "test_pump_faults.py",
    "test_pump_receive.py",
    "test_pump_queues.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
