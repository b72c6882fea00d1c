"""The server of the metrics page, on a loopback port of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tapbond.errors import TapbondError
from tapbond.metrics import server as module
from tapbond.metrics.address import Address
from tapbond.metrics.page import Page
from tapbond.metrics.server import CLIENTS_MAX, REQUEST_MAX, MetricsServer, listen

TEXT = b"tapbond_slaves 2\n"
DEADLINE_S = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(body: bytes = TEXT) -> AsyncIterator[int]:
    port = free_port()
    server = MetricsServer(listen(Address("127.0.0.1", port)), lambda accept: Page(body, accept or "text/plain"))
    await server.start()
    try:
        yield port
    finally:
        await server.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    """Send a request; return status, head and body, all that came until the server closed."""
    reader, writer = await connect(port)
    try:
        writer.write(request)
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


def get(target: str = "/metrics", method: str = "GET", *lines: str) -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", *lines, "", "")).encode()


async def test_get_and_head() -> None:
    async with serving() as port:
        status, head, body = await ask(port, get())
        assert (status, body) == (200, TEXT)
        assert f"Content-Length: {len(TEXT)}".encode() in head
        assert b"Connection: close" in head
        status, head, body = await ask(port, get(method="HEAD"))
        assert (status, body) == (200, b"")
        assert f"Content-Length: {len(TEXT)}".encode() in head
        assert (await ask(port, get("/metrics?x=1")))[0] == 200


async def test_accept_is_passed_on() -> None:
    async with serving() as port:
        _, head, _ = await ask(port, get("/metrics", "GET", "ACCEPT:  a/b;q=1"))
        assert b"Content-Type: a/b;q=1" in head


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/metrics/../etc/passwd"), 404),
        (get(method="POST"), 405),
        (b"garbage\r\n\r\n", 400),
        (b"\x00\xff\xfe\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (get("/metrics", "GET", "X: " + "x" * REQUEST_MAX), 431),
    ],
)
async def test_what_is_refused(request_: bytes, status: int) -> None:
    async with serving() as port:
        assert (await ask(port, request_))[0] == status
        assert (await ask(port, get()))[0] == 200


async def test_slow_clients_harm_nobody() -> None:
    """More than there is room for, that never end their request: the page is still served, the oldest are gone."""
    async with serving() as port:
        slow = [await connect(port) for _ in range(3 * CLIENTS_MAX)]
        for _, writer in slow:
            writer.write(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(5):
            assert (await ask(port, get()))[2] == TEXT
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionResetError):
                assert await slow[0][0].read() == b""
        for _, writer in slow:
            writer.transport.abort()


async def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 0.05)
    async with serving() as port:
        reader, writer = await connect(port)
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than the buffers of both ends hold."""
    monkeypatch.setattr(module, "DEADLINE_S", 0.2)
    async with serving(b"x" * (32 << 20)) as port:
        _, writer = await connect(port)
        transport: asyncio.Transport = writer.transport  # type: ignore[assignment]
        transport.pause_reading()
        writer.write(get())
        async with asyncio.timeout(DEADLINE_S):
            while True:  # its own buffer of one is gone when its end is
                try:
                    writer.write(b"x" * 4096)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                except OSError:
                    break
        writer.transport.abort()


async def test_the_end_waits_for_no_client() -> None:
    async with serving() as port:
        _, writer = await connect(port)
        writer.write(b"GET")
        await writer.drain()
    writer.transport.abort()


def test_a_port_that_is_taken() -> None:
    port = free_port()
    with listen(Address("127.0.0.1", port)), pytest.raises(TapbondError) as refused:
        listen(Address("127.0.0.1", port))
    assert str(refused.value) == (
        f"--metrics 127.0.0.1:{port}: Address already in use (choose another address or port)"
    )


def test_an_address_of_another_machine() -> None:
    with pytest.raises(TapbondError, match=r"--metrics 192\.0\.2\.77:9199: Cannot assign requested address"):
        listen(Address("192.0.2.77", 9199))
