"""A subject in place: two hosts with something between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tapbond.lab.echo import Echo
from tapbond.lab.topology import FAR_V4, HOST_V4
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from tapbond.lab.namespace import Namespace

PORT_REACH = 5400
REACH_DEADLINE_S = 20.0


class End(NamedTuple):
    """One of the two."""

    namespace: Namespace
    address: str


class Bed(NamedTuple):
    """Where a load is put on."""

    host: Namespace
    far: Namespace
    pids: dict[str, int]
    """The processes that carry frames, by name; none for the kernel's own ways."""

    def ends(self, direction: str) -> tuple[End, End]:
        """Return who sends and who receives, for "to far" or "from far"."""
        ends = End(self.host, HOST_V4), End(self.far, FAR_V4)
        return ends if direction == "to far" else ends[::-1]

    def wait_reachable(self) -> None:
        """Wait until the far host answers, so that both ends know each other's MAC; TimeoutError."""
        with Echo(self.host, self.far, FAR_V4, PORT_REACH, trips_max=1) as echo:
            wait_until(lambda: echo.trips, REACH_DEADLINE_S, "an answer of the far host")
