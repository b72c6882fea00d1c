"""A server of one page: HTTP/1.1, GET and HEAD of /metrics, one request a connection.

On the loop, not in threads: prometheus_client's server has a thread a connection, without a limit, and waits for a
slow client for ever. Here a client has 4 KiB and some seconds for its request; when there are too many, the one
that has kept us waiting longest has to go. No frame waits for any of it: those are the pump's.
"""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus

from tapbond.errors import TapbondError
from tapbond.metrics.address import Address
from tapbond.metrics.page import Page

REQUEST_MAX = 4096
"""In bytes, its headers included."""
CLIENTS_MAX = 16
DEADLINE_S = 5.0
"""For the request, and again for the answer to be taken."""
BACKLOG = 16
END = b"\r\n\r\n"


def listen(address: Address) -> socket.socket:
    """Return a socket that listens.

    Raises:
        TapbondError: the address is taken, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)  # two may bind with SO_REUSEADDR, but only one may listen
    except OSError as error:
        listener.close()
        raise TapbondError(f"--metrics {address}: {error.strerror} (choose another address or port)") from error
    return listener


class MetricsServer:
    """Serves the page while it is open.

    Args:
        listener: listens.
        answer: returns the page for an Accept header.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[str], Page]) -> None:
        self._listener = listener
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], None] = {}  # in the order of their coming

    async def start(self) -> None:
        """Serve."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=REQUEST_MAX)

    async def close(self) -> None:
        """Stop, and let the clients go; again is harmless."""
        if self._server is not None:
            self._server.close()
        self._listener.close()
        clients = tuple(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        if client is None:
            return
        if len(self._clients) >= CLIENTS_MAX:
            next(iter(self._clients)).cancel()
        self._clients[client] = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(await self._reply(reader))
            async with asyncio.timeout(DEADLINE_S):
                await writer.drain()
            writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # close() would wait for what is not taken
        finally:
            self._clients.pop(client, None)

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(END)
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        method, _, rest = head.decode("latin-1").partition(" ")
        target, _, version = rest.split("\r\n", 1)[0].partition(" ")
        if not version.startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, allow=True)
        if target.partition("?")[0] != "/metrics":
            return _response(HTTPStatus.NOT_FOUND)
        page = self._answer(_header(head, "accept"))
        return _response(HTTPStatus.OK, page, head_only=method == "HEAD")


def _header(head: bytes, name: str) -> str:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return ",".join(value.strip() for field, _, value in lines if field.lower() == name)


def _response(
    status: HTTPStatus, page: Page | None = None, *, head_only: bool = False, allow: bool = False
) -> bytes:
    page = page or Page(f"{status.phrase}: metrics are at /metrics\n".encode(), "text/plain; charset=utf-8")
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        *(["Allow: GET, HEAD"] if allow else []),
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + END + (b"" if head_only else page.body)
