"""What one would write by hand: a TAP, two packet sockets and a loop, in plain Python.

    python handwritten.py TAP MAC MTU STANDBY PRIMARY

It is measured beside tapbond. It uses the primary while that has a carrier, else the standby. It knows nothing of
offloads (so the cable has to carry plain frames), of other MACs, of announcements; the slaves' own IP stack has
to be kept out by other means. Run by its path: it imports nothing of tapbond.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import sys
import time

import pytun

ETH_P_ALL = 3
SIOCGIFFLAGS = 0x8913
IFF_RUNNING = 0x40
PACKET_OUTGOING = 4
FRAME_MAX = 65536
POLL_S = 0.01


def open_tap(name: str, mac: str, mtu: int) -> pytun.TunTapDevice:
    """Make a TAP with a MAC and set it up."""
    tap = pytun.TunTapDevice(name=name, flags=pytun.IFF_TAP | pytun.IFF_NO_PI)
    tap.hwaddr = bytes.fromhex(mac.replace(":", ""))
    tap.mtu = mtu
    tap.up()
    return tap


def open_slave(name: str) -> socket.socket:
    """Open a packet socket on a link (packet(7))."""
    slave = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    slave.bind((name, 0))
    return slave


def running(slave: socket.socket, name: str) -> bool:
    """Return whether a link is up and has a carrier (netdevice(7))."""
    answer = fcntl.ioctl(slave, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
    return bool(struct.unpack_from("H", answer, 16)[0] & IFF_RUNNING)


def carry(tap: pytun.TunTapDevice, standby: tuple[str, socket.socket], primary: tuple[str, socket.socket]) -> None:
    """Copy frames between the TAP and whichever slave is active, for ever."""
    poll = select.poll()
    for readable in (tap, standby[1], primary[1]):
        poll.register(readable, select.POLLIN)
    tap_fd = tap.fileno()
    active = primary[1]
    looked = 0.0
    while True:
        for fd, _ in poll.poll(POLL_S * 1000):
            if fd == tap_fd:
                active.send(tap.read(FRAME_MAX))
                continue
            slave = primary[1] if fd == primary[1].fileno() else standby[1]
            frame, address = slave.recvfrom(FRAME_MAX)
            if slave is active and address[2] != PACKET_OUTGOING:
                tap.write(frame)
        if time.monotonic() - looked > POLL_S:
            active = primary[1] if running(primary[1], primary[0]) else standby[1]
            looked = time.monotonic()


def main(name: str, mac: str, mtu: str, standby: str, primary: str) -> None:
    """Make the failover and carry its frames until a signal ends it."""
    tap = open_tap(name, mac, int(mtu))
    carry(tap, (standby, open_slave(standby)), (primary, open_slave(primary)))


if __name__ == "__main__":
    main(*sys.argv[1:])
