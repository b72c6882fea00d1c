"""What this machine and these rights allow: each thing is tried, not guessed from versions, and undone."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import msgspec

from tapbond.datapath.classifier import CLASSIFIERS, Classifier
from tapbond.datapath.port import (
    PACKET_IGNORE_OUTGOING,
    PACKET_VNET_HDR,
    RECEIVE_BUFFER,
    SO_RCVBUFFORCE,
    SOL_PACKET,
)
from tapbond.datapath.tc import Tc
from tapbond.datapath.wiring import Wiring
from tapbond.errors import TapbondError
from tapbond.isolation import KINDS
from tapbond.place import Place
from tapbond.rundir import RunDir
from tapbond.tap import Tap


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    what: str
    ok: bool
    needed: bool
    """tapbond does not run without it."""
    found: str
    way_out: str = ""
    """How to get it; empty when it is there."""


def scratch_name() -> str:
    """Return a name for interfaces that exist for a moment."""
    return f"tbdoc{os.getpid() % 10**8}"


def check_tap() -> list[Finding]:
    """Make a TAP and see what it offers."""
    try:
        tap = Tap(scratch_name())
    except TapbondError as error:
        reason, _, way_out = str(error).partition(" (")
        return [Finding(what="TAP", ok=False, needed=True, found=reason, way_out=way_out.rstrip(")"))]
    offload = tap.offload
    tap.close()
    try:
        Tap(scratch_name(), queues=2).close()
    except TapbondError as error:
        several = str(error)
    else:
        several = ""
    return [
        Finding(what="TAP", ok=True, needed=True, found="works, with virtio_net_hdr"),
        Finding(
            what="TAP offload",
            ok=offload != "none",
            needed=False,
            found={"tso+uso": "TCP and UDP segmentation", "tso": "TCP segmentation", "none": "none"}[offload],
            way_out="" if offload == "tso+uso" else "UDP segmentation needs Linux 6.2",
        ),
        Finding(
            what="TAP queues",
            ok=not several,
            needed=False,
            found=several or "any number (--queues)",
            way_out="--queues 1 does without" if several else "",
        ),
    ]


def check_packet_socket() -> list[Finding]:
    """Open a packet socket that hears nothing."""
    name, needed = "packet sockets", True
    try:
        probe = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError:
        way_out = "CAP_NET_RAW: be root, or root of a user namespace: unshare -Urn"
        return [Finding(what=name, ok=False, needed=needed, found="not permitted", way_out=way_out)]
    except OSError as error:
        way_out = "a kernel with CONFIG_PACKET (modprobe af_packet)"
        return [Finding(what=name, ok=False, needed=needed, found=str(error.strerror), way_out=way_out)]
    with probe:
        findings = [Finding(what=name, ok=True, needed=needed, found="work")]
        for what, option, since in (
            ("vnet_hdr on packet sockets", PACKET_VNET_HDR, "Linux 2.6.37"),
            ("PACKET_IGNORE_OUTGOING", PACKET_IGNORE_OUTGOING, "Linux 4.20"),
        ):
            try:
                probe.setsockopt(SOL_PACKET, option, 1)
            except OSError as error:
                findings.append(
                    Finding(
                        what=what, ok=False, needed=True, found=str(error.strerror), way_out=f"{since} or later"
                    )
                )
            else:
                findings.append(Finding(what=what, ok=True, needed=True, found="works"))
        findings.append(_check_buffer(probe))
    return findings


def _check_buffer(probe: socket.socket) -> Finding:
    try:
        probe.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    granted = probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    enough = granted >= RECEIVE_BUFFER
    return Finding(
        what="receive buffer",
        ok=enough,
        needed=False,
        found=f"{granted >> 10} KiB of {RECEIVE_BUFFER >> 10} KiB",
        way_out="" if enough else f"on the host: sysctl net.core.rmem_max={RECEIVE_BUFFER}",
    )


def check_redirect() -> list[Finding]:
    """Redirect a TAP's frames with each classifier of tc; where there is no TAP, check_tap() says so."""
    try:
        tap = Tap(scratch_name())
    except TapbondError:
        return []
    works, failures = [], []
    with contextlib.closing(tap):
        for classifier in CLASSIFIERS:
            if reason := _redirect_fails(classifier, tap.name):
                failures.append(reason)
            else:
                works.append(classifier.kind)
    found = f"works, with {' and '.join(works)}" if works else failures[0]
    way_out = "" if works else REDIRECT_WAY_OUT
    return [Finding(what="datapath redirect", ok=bool(works), needed=False, found=found, way_out=way_out)]


def _redirect_fails(classifier: Classifier, tap: str) -> str:
    """Return why frames cannot be redirected with this, or nothing."""
    try:
        wiring = Wiring(tap, Tc(), [classifier])
    except OSError as error:
        return str(error.strerror)
    try:
        wiring.open(socket.if_nametoindex(tap))
    except TapbondError as error:
        return str(error)
    finally:
        wiring.close()
        wiring.end()
    return ""


REDIRECT_WAY_OUT = (
    "CAP_NET_ADMIN, and a kernel with CONFIG_NET_SCH_INGRESS, CONFIG_NET_ACT_MIRRED, and CONFIG_NET_CLS_BPF or"
    " CONFIG_NET_CLS_U32 (modprobe sch_ingress act_mirred cls_u32); --datapath copy needs none of them"
)


async def check_isolation(run_dir: Path | None) -> list[Finding]:
    """Open and close each kind of isolation."""
    pin = _scratch_pin(run_dir)
    findings: list[Finding] = []
    place = Place()
    await place.open()
    try:
        for kind in [kind for kind in KINDS if kind != "none"]:
            isolation = KINDS[kind](scratch_name(), place, pin)
            try:
                await isolation.open()
            except TapbondError as error:
                findings.append(
                    Finding(
                        what=f"isolation {kind}",
                        ok=False,
                        needed=False,
                        found=str(error),
                        way_out=ISOLATION_WAYS_OUT[kind],
                    )
                )
            else:
                findings.append(Finding(what=f"isolation {kind}", ok=True, needed=False, found="works"))
            await isolation.close()
    finally:
        await place.close()
    works = any(finding.ok for finding in findings if finding.what != "isolation netns")
    findings.append(
        Finding(
            what="isolation",
            ok=works,
            needed=True,
            found="at least one kind works" if works else "none works",
            way_out="" if works else "--isolation none runs without; slaves then answer a second time",
        )
    )
    return findings


def _scratch_pin(run_dir: Path | None) -> Path:
    """Return where a namespace is pinned for a moment; whether that can be written is another check's."""
    found = RunDir(run_dir)
    with contextlib.suppress(TapbondError):
        found.make()
    return found.pin(scratch_name())


ISOLATION_WAYS_OUT = {
    "bridge": "CAP_NET_ADMIN, and a kernel with CONFIG_BRIDGE (modprobe bridge)",
    "netns": "CAP_SYS_ADMIN over the mount namespace, too: be root, or use unshare -Urnm",
    "nft": "CAP_NET_ADMIN, and Linux 5.12 with CONFIG_NF_TABLES_NETDEV (modprobe nf_tables)",
}


def check_run_dir(run_dir: Path | None) -> list[Finding]:
    """Make the run directory."""
    try:
        made = RunDir(run_dir).make()
    except TapbondError as error:
        reason, _, way_out = str(error).partition(" (")
        return [Finding(what="run directory", ok=False, needed=True, found=reason, way_out=way_out.rstrip(")"))]
    with contextlib.suppress(OSError):
        made.path.rmdir()  # stays when a failover uses it
    return [Finding(what="run directory", ok=True, needed=True, found=str(made.path.parent))]


async def examine(run_dir: Path | None) -> list[Finding]:
    """Try everything.

    Returns:
        The findings, in the order in which a failover needs the things.
    """
    isolation = await check_isolation(run_dir)
    return [*check_tap(), *check_packet_socket(), *check_redirect(), *isolation, *check_run_dir(run_dir)]


def run(run_dir: Path | None) -> list[Finding]:
    """Try everything, from a program without an event loop."""
    return asyncio.run(examine(run_dir))
