"""A lab: namespaces, links and numbered traffic, for ``tapbond demo``, tests/ and bench/."""

from .namespace import Namespace
from .report import FlowRecord, StreamRecord, Window, series, stream_alive, stream_outage_ns, total, windows
from .topology import FAR_V4, FAR_V6, HOST_V4, HOST_V6, MAC, Lab, Pair
from .traffic import TcpStream, UdpFlow
from .waiting import wait_until

__all__ = [
    "FAR_V4",
    "FAR_V6",
    "HOST_V4",
    "HOST_V6",
    "MAC",
    "FlowRecord",
    "Lab",
    "Namespace",
    "Pair",
    "StreamRecord",
    "TcpStream",
    "UdpFlow",
    "Window",
    "series",
    "stream_alive",
    "stream_outage_ns",
    "total",
    "wait_until",
    "windows",
]
