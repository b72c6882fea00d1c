"""Close packet sockets where it keeps nobody waiting.

packet_release() in net/packet/af_packet.c waits until every processor has let go of the socket, by
synchronize_net(): milliseconds.
"""

import asyncio
import socket
from collections.abc import Iterable


def close_soon(port: socket.socket) -> None:
    """Close a socket in a thread, or at once where no event loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        port.close()
        return
    loop.run_in_executor(None, port.close)


async def close_all(ports: Iterable[socket.socket]) -> None:
    """Close sockets in a thread, and wait for it."""

    def close() -> None:
        for port in ports:
            port.close()

    await asyncio.to_thread(close)
