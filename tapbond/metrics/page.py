"""The text that is scraped, in the two forms that Prometheus reads."""

from collections.abc import Callable, Iterator

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as encode_open
from prometheus_client.registry import Collector, CollectorRegistry

from tapbond.metrics.families import families
from tapbond.metrics.switchovers import SwitchoverCounts
from tapbond.state import Status

OPEN = "application/openmetrics-text"
FRESH_NS = 100_000_000
"""A text is given to whoever asks so soon after: many that ask cost no more than one."""


class Page(msgspec.Struct, frozen=True):
    """What is answered."""

    body: bytes
    content_type: str


class _Live(Collector):
    def __init__(self, status: Callable[[], Status], counts: SwitchoverCounts) -> None:
        self._status = status
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        return families(self._status(), self._counts)


class MetricsPage:
    """The metrics of one failover as text.

    Args:
        status: returns what it is now.
        counts: of its switchovers.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, status: Callable[[], Status], counts: SwitchoverCounts, clock: Callable[[], int]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Live(status, counts))
        self._clock = clock
        self._made: dict[bool, tuple[int, Page]] = {}

    def text(self) -> str:
        """Return the text as of now."""
        return generate_latest(self._registry).decode()

    def answer(self, accept: str) -> Page:
        """Return the page for an Accept header (RFC 9110): OpenMetrics for who asks for it."""
        is_open, now_ns = OPEN in accept, self._clock()
        made_ns, page = self._made.get(is_open, (0, None))
        if page is None or now_ns - made_ns >= FRESH_NS:
            page = self._make(is_open)
            self._made[is_open] = (now_ns, page)
        return page

    def _make(self, is_open: bool) -> Page:
        if is_open:
            body: bytes = encode_open(self._registry)  # type: ignore[no-untyped-call]
            return Page(body, CONTENT_TYPE_LATEST)
        return Page(generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)
