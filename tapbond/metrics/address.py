"""Where metrics are served: ``[ADDRESS:]PORT`` of ``--metrics``; pure."""

import ipaddress
from typing import Self

import msgspec

from tapbond.errors import TapbondError

LOOPBACK = "127.0.0.1"
PORT_MAX = 65535
EXAMPLES = "9199, 127.0.0.1:9199, [::1]:9199"


class Address(msgspec.Struct, frozen=True):
    """An IP address and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``text`` names: of this machine alone when it is only a port.

        Raises:
            TapbondError: it is no such address.
        """
        host, colon, port = text.rpartition(":")
        host = host if colon else LOOPBACK
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            address = ipaddress.ip_address(LOOPBACK if bare == "localhost" else bare)
        except ValueError:
            address = None
        if address is None or (":" in bare) != (bare != host):  # IPv6, and only that, has brackets
            raise TapbondError(f"--metrics {text}: {host or 'nothing'} is no IP address ({EXAMPLES})")
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX):
            wrong = f"{port or 'nothing'} is no port from 1 to {PORT_MAX}"
            raise TapbondError(f"--metrics {text}: {wrong} ({EXAMPLES})")
        return cls(str(address), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
