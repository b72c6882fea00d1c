"""The pump is told other things while it runs."""

from rig import MAC, OWN, Rig, frame, inbound, receive, running, send

HELLO = b"\xff" * 6 + OWN + b"\x80\x35" + b"hello" * 10


async def first_on(rig: Rig, port: int) -> bytes:
    """Return what is sent first on a port that has just become the sender's."""
    await send(rig.host, [frame(b"mark")])
    return (await receive(rig.far[port], 1))[0][10:]


async def test_a_switch_is_announced_or_not() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        rig.pump.tune(0, tolerant=False, silent=True)
        await rig.order(1, 0)
        assert await first_on(rig, 1) == frame(b"mark")[10:]
        rig.pump.tune(0, tolerant=False, silent=False)
        await rig.order(0, 1)
        assert await first_on(rig, 0) == HELLO


async def test_the_former_receiver_drains_or_not() -> None:
    """With no drain, what comes over the former slave after the switch is dropped."""
    async with running() as rig:  # it would drain for ever
        rig.pump.tune(0, tolerant=False, silent=True)
        await rig.order(1, 0)
        await send(rig.far[0], [inbound(1)])
        await send(rig.far[1], [inbound(2)])
        assert await receive(rig.host, 1) == [inbound(2)]
        rig.pump.tune(600 * 10**9, tolerant=False, silent=True)
        await rig.order(0, 1)
        await send(rig.far[1], [inbound(3)])
        assert await receive(rig.host, 1) == [inbound(3)]
