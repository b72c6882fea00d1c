"""What a complete pair must be: the net_failover document's domain XML, and libvirt's own rules (formatdomain)."""

from collections.abc import Callable, Iterator

from tapbond.teaming.finding import Finding, Severity
from tapbond.teaming.nic import is_unicast
from tapbond.teaming.pair import Pair
from tapbond.teaming.source import Source

ALIAS_PREFIX = "ua-"
"""Of an alias that a user may choose; libvirt keeps no other."""
DRIVERS = ("vhost", "qemu")
AUTOMATIC_TAPS = ("vnet", "macvtap", "macvlan")
"""Names that libvirt gives itself and forgets at the next start."""

Rule = Callable[[Source, Pair], Iterator[Finding]]


def _kinds(_source: Source, pair: Pair) -> Iterator[Finding]:
    standing, passing = pair.persistent, pair.transient
    if standing.passthrough:
        yield Finding(
            line=standing.line,
            text=f"the persistent {standing.label} is a device of the host, which cannot be migrated (make it the"
            " transient one; the persistent one is virtio)",
        )
    if not passing.passthrough and passing.element.attributes.get("type") != "network":
        yield Finding(
            line=passing.line,
            text=f"the transient {passing.label} is no device of the host (type='hostdev', or type='network' of a"
            " network with a pool of VFs)",
        )


def _model(source: Source, pair: Pair) -> Iterator[Finding]:
    nic = pair.persistent
    if nic.passthrough or nic.model == "virtio":
        return
    if nic.model:
        line = (nic.element.child("model") or nic.element).line
        yield Finding(
            line=line, text=f"the persistent {nic.label} is {nic.model}, not virtio (<model type='virtio'/>)"
        )
        return
    yield Finding(
        line=nic.line,
        text=f"the persistent {nic.label} has no model (<model type='virtio'/>)",
        cure=(source.insert(nic.element, "<model type='virtio'/>"),),
    )


def _macs(source: Source, pair: Pair) -> Iterator[Finding]:
    standing, passing = pair.persistent, pair.transient
    if standing.mac and passing.mac and standing.mac != passing.mac:
        yield Finding(
            line=(passing.element.child("mac") or passing.element).line,
            text=f"MAC {passing.mac} is not that of its partner, {standing.mac} in line {standing.line} (the guest"
            " pairs them by their MAC)",
        )
    for nic, other in ((standing, passing), (passing, standing)):
        if nic.mac and not is_unicast(nic.mac) and (nic is standing or nic.mac != other.mac):
            line = (nic.element.child("mac") or nic.element).line
            yield Finding(line=line, text=f"{nic.mac}: not a MAC that an interface can have")
        elif not nic.mac and nic.element.tag == "interface":
            has_twin = is_unicast(other.mac) and nic.element.child("mac") is None
            text = f"<mac address='{other.mac}'/>" if has_twin else "<mac address='…'/>"
            yield Finding(
                line=nic.line,
                text=f"{nic.label} has no MAC: libvirt would give each half one of its own ({text})",
                cure=(source.insert(nic.element, text),) if has_twin else (),
            )


def _alias(_source: Source, pair: Pair) -> Iterator[Finding]:
    alias = pair.persistent.alias
    if not alias.startswith(ALIAS_PREFIX):
        yield Finding(
            line=(pair.persistent.element.child("alias") or pair.persistent.element).line,
            text=f"alias {alias!r} does not begin with 'ua-': libvirt replaces it with one of its own"
            f" (ua-{alias}, here and in line {(pair.transient.teaming or pair.transient.element).line})",
        )


def _link_state(source: Source, pair: Pair) -> Iterator[Finding]:
    nic = pair.persistent
    link = nic.element.child("link")
    if link is not None and link.attributes.get("state") == "down":
        return
    state = "up" if link is None else link.attributes.get("state", "up")
    if nic.passthrough:
        return
    cure = (
        source.insert(nic.element, "<link state='down'/>")
        if link is None
        else source.attribute(link, "state", "down")
    )
    yield Finding(
        line=(link or nic.element).line,
        text=f"the link of the persistent {nic.label} is {state}: down until a migration (<link state='down'/>)",
        cure=(cure,),
    )


def _driver(_source: Source, pair: Pair) -> Iterator[Finding]:
    driver = pair.persistent.element.child("driver")
    if driver is None:
        return
    name, queues = driver.attributes.get("name", "vhost"), driver.attributes.get("queues", "1")
    if name not in DRIVERS:
        yield Finding(line=driver.line, text=f"driver {name!r} is unknown (vhost or qemu)")
    elif name == "qemu":
        yield Finding(
            line=driver.line, text="driver 'qemu' copies in userspace (vhost is faster)", severity=Severity.NOTE
        )
    if not queues.isdecimal() or int(queues) < 1:
        yield Finding(line=driver.line, text=f"queues={queues!r} is not a number of queues (1 and more)")


def _host_device(source: Source, pair: Pair) -> Iterator[Finding]:
    nic = pair.transient
    if not nic.passthrough:
        return
    place = nic.element.child("source")
    if place is None or (place.child("address") is None and "dev" not in place.attributes):
        yield Finding(
            line=(place or nic.element).line,
            text=f"the transient {nic.label} does not say which device of the host it is (<source><address"
            " type='pci' …/></source>)",
        )
    if nic.element.attributes.get("managed") != "yes":
        yield Finding(
            line=nic.line,
            text=f"the transient {nic.label} is not managed='yes': bind the VF to vfio-pci before it is plugged",
            severity=Severity.NOTE,
            cure=() if "managed" in nic.element.attributes else (source.attribute(nic.element, "managed", "yes"),),
        )


def _tap(_source: Source, pair: Pair) -> Iterator[Finding]:
    name = pair.persistent.element.value("target", "dev") or ""
    if name.startswith(AUTOMATIC_TAPS):
        yield Finding(
            line=(pair.persistent.element.child("target") or pair.persistent.element).line,
            text=f"target {name!r} is a name of libvirt's own, which it gives anew at each start (choose another)",
            severity=Severity.NOTE,
        )


RULES: tuple[Rule, ...] = (_kinds, _model, _macs, _alias, _link_state, _driver, _host_device, _tap)
