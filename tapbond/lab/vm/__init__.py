"""Virtual machines for the lab: QEMU in software, a stock Debian kernel, this program inside.

    guest                                   switch (namespace)            far (namespace)
    agent ── virtio-serial ── Guest
    virtio-net (standby) ────────── tap ┐
    e1000e     (primary) ────────── tap ┼ br0 ── swf ────────────────── eth0 10.53.0.2/24

The guest's root is one initramfs: the kernel's modules that are needed, Python, this program with what it
needs, ``ip`` and a few more tools. Nothing is mounted from the host (a mounted 9p would forbid migration), nothing
is installed on it.
"""
