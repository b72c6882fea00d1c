"""The pair of interfaces of a libvirt domain that the net_failover document describes: checked and completed."""

from tapbond.teaming.check import check
from tapbond.teaming.completion import complete
from tapbond.teaming.finding import Finding
from tapbond.teaming.source import Source, XmlError

__all__ = ["Finding", "Source", "XmlError", "check", "complete"]
