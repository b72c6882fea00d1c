"""The places of one failover: its own, and the one where its slaves are found."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from tapbond.netns import Netns
from tapbond.place import Place
from tapbond.rundir import RunDir
from tapbond.settings import Settings


class Places:
    """Open places.

    Args:
        settings: the failover's.
        run_dir: of the namespace where the failover is.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, settings: Settings, run_dir: RunDir, clock: Callable[[], int]) -> None:
        self.home = Place(clock=clock)
        """Where the TAP is made: the namespace of the thread that calls open()."""
        self.slaves = self.home
        """Where slaves are found; isolation netns takes them elsewhere (tapbond.refuge)."""
        self.slave_run_dir = run_dir
        """Where the links among which slaves are found are locked."""
        self._settings = settings
        self._clock = clock

    async def open(self, unwind: AsyncExitStack) -> None:
        """Make the run directory, make sure that no other process has this failover, and open both places.

        Raises:
            BusyError, RightsError, NamespaceError: it cannot be.
        """
        name, wanted = self._settings.name, self._settings.slave_netns
        self.slave_run_dir.make()
        unwind.callback(self.slave_run_dir.lock_failover(name).release)
        unwind.push_async_callback(self.home.close)
        await self.home.open()
        if wanted is None:
            return
        netns = Netns.find(wanted)
        if netns.inode == self.home.inode:
            netns.close()
            return
        # What is made there has the failover's name, too.
        self.slave_run_dir = RunDir(self._settings.run_dir, netns.inode).make()
        unwind.callback(self.slave_run_dir.lock_failover(name).release)
        self.slaves = Place(netns, self._clock)
        unwind.push_async_callback(self.slaves.close)
        await self.slaves.open()
