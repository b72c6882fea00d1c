"""What goes over the control socket: varlink's framing (varlink.org), JSON objects, each ended by a zero byte."""

import msgspec

INTERFACE = "io.tapbond"
MESSAGE_MAX = 1 << 20
END = b"\0"

ERROR = f"{INTERFACE}.Failed"
UNKNOWN_METHOD = "org.varlink.service.MethodNotFound"
BAD_PARAMETER = "org.varlink.service.InvalidParameter"


class Request(msgspec.Struct):
    """A call; with ``more``, it is answered until the caller goes."""

    method: str
    parameters: dict[str, object] = {}
    more: bool = False


class Reply(msgspec.Struct, omit_defaults=True):
    """An answer; ``continues``: there will be another."""

    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    error: str | None = None
    continues: bool = False


def encode(message: Request | Reply) -> bytes:
    """Return the message as it goes over the socket."""
    return msgspec.json.encode(message) + END
