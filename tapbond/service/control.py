"""The control socket: who may ask, what can be asked."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from tapbond.errors import TapbondError
from tapbond.failover import Failover
from tapbond.service.protocol import (
    BAD_PARAMETER,
    END,
    ERROR,
    INTERFACE,
    MESSAGE_MAX,
    UNKNOWN_METHOD,
    Reply,
    Request,
    encode,
)

log = structlog.get_logger()

CLIENTS_MAX = 32
SEND_DEADLINE_S = 5.0
UCRED = struct.Struct("iII")

T = TypeVar("T")
Parameters = dict[str, object]


class ControlServer:
    """Answers requests about one failover.

    Args:
        failover: created.
        path: of the socket; made for the owner only.
        stop: is called by Destroy.
    """

    def __init__(self, failover: Failover, path: Path, stop: Callable[[], None]) -> None:
        self._failover = failover
        self._path = path
        self._stop = stop
        self.reload: Callable[[], Awaitable[object]] = _nothing_to_reload
        """Is called by Reload."""
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._methods: dict[str, Callable[[Parameters], Awaitable[object]]] = {
            "GetStatus": self._get_status,
            "Switch": self._switch,
            "AddSlave": self._add_slave,
            "RemoveSlave": self._remove_slave,
            "Rank": self._rank,
            "GetSwitchovers": self._get_switchovers,
            "Reload": self._reload,
            "Destroy": self._destroy,
        }

    async def start(self) -> None:
        """Listen. A socket that an earlier process left is replaced: the failover's lock is ours."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind(os.fspath(self._path))
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MESSAGE_MAX)

    async def close(self) -> None:
        """Stop listening, let the clients go."""
        self._path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        if client is None or len(self._clients) >= CLIENTS_MAX or not _may_ask(writer):
            writer.close()
            return
        self._clients.add(client)
        try:
            while True:
                await self._answer(await reader.readuntil(END), writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
            pass
        finally:
            self._clients.discard(client)
            writer.close()

    async def _answer(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = msgspec.json.decode(data[:-1], type=Request)
        except msgspec.DecodeError as error:
            await _send(writer, _failure(BAD_PARAMETER, str(error)))
            return
        name = request.method.removeprefix(f"{INTERFACE}.")
        if name == "Monitor" and request.more:
            await self._monitor(writer)
        elif (method := self._methods.get(name)) is None:
            await _send(writer, _failure(UNKNOWN_METHOD, f"{request.method}: no such method"))
        else:
            await _send(writer, await _call(method, request.parameters))

    async def _monitor(self, writer: asyncio.StreamWriter) -> None:
        events = self._failover.events()
        await _send(writer, Reply(parameters=msgspec.Raw(b"{}"), continues=True))
        with contextlib.suppress(OSError, TimeoutError):
            async for event in events:
                body = msgspec.Raw(msgspec.json.encode({"event": event}))
                await _send(writer, Reply(parameters=body, continues=True))
        await _send(writer, Reply())

    async def _get_status(self, _parameters: Parameters) -> object:
        await self._failover.refresh()
        return self._failover.status()

    async def _get_switchovers(self, _parameters: Parameters) -> object:
        return {"switchovers": self._failover.switchovers()}

    async def _switch(self, parameters: Parameters) -> object:
        slave = parameters.get("slave")
        if slave is not None and not isinstance(slave, str):
            raise TypeError("slave: a name, or null to let the rules choose")
        self._failover.switch(slave)
        return {}

    async def _add_slave(self, parameters: Parameters) -> object:
        role, prio = str(parameters.get("role") or "primary"), _optional(parameters, "prio", int)
        await self._failover.add(_string(parameters, "link"), role, prio)
        return {}

    async def _rank(self, parameters: Parameters) -> object:
        prio, sticky = _optional(parameters, "prio", int), _optional(parameters, "sticky", bool)
        self._failover.rank(_string(parameters, "slave"), prio=prio, sticky=sticky)
        return {}

    async def _remove_slave(self, parameters: Parameters) -> object:
        await self._failover.remove(_string(parameters, "slave"))
        return {}

    async def _reload(self, _parameters: Parameters) -> object:
        return await self.reload()

    async def _destroy(self, _parameters: Parameters) -> object:
        asyncio.get_running_loop().call_soon(self._stop)
        return {}


async def _nothing_to_reload() -> object:
    raise TapbondError("there is no configuration to read again")


async def _call(method: Callable[[Parameters], Awaitable[object]], parameters: Parameters) -> Reply:
    try:
        return Reply(parameters=msgspec.Raw(msgspec.json.encode(await method(parameters))))
    except TapbondError as error:
        return _failure(ERROR, str(error))
    except (TypeError, ValueError) as error:
        return _failure(BAD_PARAMETER, str(error))


def _string(parameters: Parameters, name: str) -> str:
    value = parameters.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{name}: a string is wanted")
    return value


def _optional(parameters: Parameters, name: str, kind: type[T]) -> T | None:
    value = parameters.get(name)
    if value is not None and type(value) is not kind:
        raise TypeError(f"{name}: {kind.__name__} or null is wanted")
    return value


def _failure(error: str, message: str) -> Reply:
    return Reply(error=error, parameters=msgspec.Raw(msgspec.json.encode({"message": message})))


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send; a client that does not read is dropped by the deadline, and delays nobody but itself."""
    writer.write(encode(reply))
    async with asyncio.timeout(SEND_DEADLINE_S):
        await writer.drain()


def _may_ask(writer: asyncio.StreamWriter) -> bool:
    """Only root and the owner may: the folder is closed to others, this is the second lock (unix(7))."""
    peer = writer.get_extra_info("socket")
    _, uid, _ = UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return uid in (0, os.geteuid())
