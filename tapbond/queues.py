"""How many queues a TAP gets: pure."""

from typing import Literal

QUEUES_MAX = 64
"""TB_QUEUES_MAX of csrc/tapbond.h."""
AUTO_MAX = 8
FEW_CORES = 2


def queue_count(wanted: int | Literal["auto"], cores: int, *, copies: bool) -> int:
    """Return how many queues to have.

    Args:
        wanted: ``auto``: half as many as processors, eight at the most. Sender and receiver need the other half:
            where there are but two processors, a second pump takes one away from them.
        cores: that may be run on.
        copies: False: the kernel may carry the frames, and the pump what is left: one queue does.
    """
    if wanted != "auto":
        return wanted
    if not copies or cores <= FEW_CORES:
        return 1
    return min(cores // 2, AUTO_MAX)
