"""The record of a switchover, from what the control plane and the pump say and when."""

import pytest

from tapbond.model import Counters, Detector, Switchover
from tapbond.switchover import EXPLAIN_NS, KEPT, RECORD_NS, SwitchoverLog

T = 1_000_000_000_000


class Book:
    """A log with counters that the test moves."""

    def __init__(self) -> None:
        self.total = Counters()
        self.done: list[Switchover] = []
        self.log = SwitchoverLog("tb0", lambda: self.total, self.done.append)

    def switch(self, to: str | None, at: int = T, *, detected: int | None = None, drain: bool = False) -> None:
        detected = at if detected is None else detected
        self.log.switched(to, f"to {to}", Detector.NETLINK, detected, at, drain=drain)


@pytest.fixture
def book() -> Book:
    return Book()


def test_a_record_says_who_why_and_when(book: Book) -> None:
    book.log.switched("eth1", "first slave ready", Detector.CONTROL, T - 5, T, drain=True)
    book.log.first_tx("eth1", T + 7)
    book.log.first_rx("eth1", T + 9)
    assert book.log.settle(T + 10) is None
    assert book.done == [
        Switchover(
            failover="tb0",
            serial=1,
            from_slave=None,
            to_slave="eth1",
            cause="first slave ready",
            detector=Detector.CONTROL,
            detected_ns=T - 5,
            decided_ns=T,
            first_tx_ns=T + 7,
            first_rx_ns=T + 9,
        )
    ]
    assert list(book.log.records) == book.done


def test_the_same_slave_again_is_no_switchover(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth1", T + 1)
    book.switch(None, T + 2)
    book.switch(None, T + 3)
    assert book.log.count == 2
    assert book.log.active is None


def test_nobody_at_the_start_is_no_switchover(book: Book) -> None:
    book.switch(None)
    assert book.log.count == 0


def test_a_new_switchover_closes_the_one_before(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 1)
    (first,) = book.done
    assert (first.to_slave, first.first_tx_ns, first.first_rx_ns) == ("eth1", None, None)
    book.log.close()
    assert [record.serial for record in book.done] == [1, 2]
    assert book.done[1].from_slave == "eth1"


def test_an_earlier_detector_is_given_its_due(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 100, detected=T + 90)
    book.log.seen_earlier("eth1", Detector.PUMP, T + 80)
    book.log.seen_earlier("eth1", Detector.POLL, T + 85)
    book.log.close()
    assert (book.done[1].detector, book.done[1].detected_ns) == (Detector.PUMP, T + 80)


def test_a_detector_that_speaks_of_another_slave_does_not_count(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 100)
    book.log.seen_earlier("eth0", Detector.PUMP, T + 80)
    book.log.close()
    assert book.done[1].detector is Detector.NETLINK
    book.log.seen_earlier("eth1", Detector.PUMP, T)


def test_only_the_first_frame_on_the_new_slave_counts(book: Book) -> None:
    book.switch("eth1")
    book.log.first_tx("eth0", T + 1)
    book.log.first_tx("eth1", T + 2)
    book.log.first_tx("eth1", T + 3)
    book.log.first_rx("eth0", T + 4)
    book.log.first_rx("eth1", T + 5)
    book.log.first_rx("eth1", T + 6)
    book.log.close()
    assert (book.done[0].first_tx_ns, book.done[0].first_rx_ns) == (T + 2, T + 5)


def test_without_frames_it_is_closed_at_its_deadline(book: Book) -> None:
    book.switch("eth1")
    assert book.log.settle(T + RECORD_NS - 1) == T + RECORD_NS
    assert book.done == []
    assert book.log.settle(T + RECORD_NS) is None
    assert len(book.done) == 1
    assert book.log.settle(T + RECORD_NS + 1) is None


def test_it_stays_open_until_the_former_slave_has_drained(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 1, drain=True)
    book.log.first_tx("eth0", T + 2)
    book.log.first_rx("eth0", T + 3)
    assert book.log.settle(T + 4) == T + 1 + RECORD_NS
    book.log.drained()
    assert book.log.settle(T + 5) is None
    assert len(book.done) == 2


def test_the_first_slave_has_nobody_to_drain(book: Book) -> None:
    book.switch("eth1", drain=True)
    book.log.first_tx("eth1", T + 2)
    book.log.first_rx("eth1", T + 3)
    assert book.log.settle(T + 4) is None


def test_frames_are_counted_to_the_record_in_which_they_were_lost(book: Book) -> None:
    book.total = Counters(tx_resent=5, tx_dropped=10, rx_duplicate=1)
    book.switch("eth1")
    book.log.close()
    book.total = Counters(tx_resent=6, tx_dropped=30, rx_duplicate=4)
    book.switch("eth0", T + 1)
    book.log.close()
    found = [(record.resent, record.dropped, record.duplicates) for record in book.done]
    assert found == [(5, 10, 1), (1, 20, 3)]


def test_a_rename_is_followed(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 1)
    book.log.renamed("eth0", "lan0")
    book.log.renamed("eth1", "lan1")
    assert book.log.active == "lan0"
    book.log.first_tx("lan0", T + 2)
    book.log.close()
    assert (book.done[1].from_slave, book.done[1].to_slave) == ("lan1", "lan0")
    assert book.done[1].first_tx_ns == T + 2
    book.log.renamed("lan0", "eth0")
    assert book.log.active == "eth0"


def test_a_better_explanation_replaces_the_cause(book: Book) -> None:
    book.switch("eth1")
    book.switch("eth0", T + 1)
    book.log.explain("eth0", ("set down",), "of another slave")
    book.log.explain("eth1", ("carrier lost",), "of another cause")
    book.log.explain("eth1", ("set down", "to eth0"), "unplugged")
    book.log.close()
    assert book.done[1].cause == "unplugged"
    book.log.explain("eth1", ("unplugged",), "too late")
    assert book.done[1].cause == "unplugged"


def test_a_vague_cause_is_kept_open_for_a_better_one(book: Book) -> None:
    """An unplugged link is said to be down first, and the frames may be quicker than the second message."""
    log = SwitchoverLog("tb0", lambda: book.total, book.done.append, vague=("set down",))
    log.switched("eth1", "first slave ready", Detector.CONTROL, T, T, drain=False)
    log.switched("eth0", "set down", Detector.NETLINK, T, T, drain=False)
    log.first_tx("eth0", T + 1)
    log.first_rx("eth0", T + 1)
    assert log.settle(T + 2) == T + EXPLAIN_NS
    log.explain("eth1", ("set down",), "unplugged")
    assert log.settle(T + 3) is None
    assert book.done[1].cause == "unplugged"


def test_closing_twice_makes_one_record(book: Book) -> None:
    book.switch("eth1")
    book.log.close()
    book.log.close()
    assert len(book.done) == 1


def test_old_records_make_room(book: Book) -> None:
    for n in range(KEPT + 10):
        book.switch(f"eth{n}", T + n)
    book.log.close()
    assert book.log.count == KEPT + 10
    assert [record.serial for record in book.log.records] == list(range(11, KEPT + 11))
