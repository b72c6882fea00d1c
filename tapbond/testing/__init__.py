"""Stand-ins for the kernel and the pump, for tests of whatever is built on tapbond.

They obey the same interfaces as the real things, never sleep, and time is a value that the test moves::

    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    run(main(), clock)  # a loop on which an hour of timers passes in no time
"""

from tapbond.testing.clock import START_NS, VirtualClock, VirtualLoop, run
from tapbond.testing.network import FakeLinks, FakeNetwork, FakeRtnetlink
from tapbond.testing.place import FakeNetns, FakePlace, FakeRefuge
from tapbond.testing.probe import FakeProbePort, FakeSegment
from tapbond.testing.pump import PORTS_MAX, FakePump

__all__ = [
    "PORTS_MAX",
    "START_NS",
    "FakeLinks",
    "FakeNetns",
    "FakeNetwork",
    "FakePlace",
    "FakeProbePort",
    "FakePump",
    "FakeRefuge",
    "FakeRtnetlink",
    "FakeSegment",
    "VirtualClock",
    "VirtualLoop",
    "run",
]
